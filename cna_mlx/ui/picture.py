"""Draw views into an SVG or HTML file."""

import io
import re
from collections.abc import Callable
from html import escape
from pathlib import Path

from rich._export_format import CONSOLE_HTML_FORMAT, CONSOLE_SVG_FORMAT
from rich.console import Console, RenderableType

from cna_mlx.ui.console import Screen
from cna_mlx.util.files import write_atomically

_WIDTH = 100
# Rich's template loads its font from the network; any monospaced font will do.
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)

# Rich fills in the braces; we add a title, and a viewport for phones.
_PAGE = CONSOLE_HTML_FORMAT.replace(
    '<meta charset="UTF-8">',
    '<meta charset="UTF-8">\n'
    '<meta name="viewport" content="width=device-width">\n<title>{title}</title>',
)


def save_picture(
    path: str | Path, title: str, draw: Callable[[Screen], list[RenderableType]]
) -> None:
    """Draw views as on a wide terminal into one self-contained HTML or SVG file."""
    console = Console(
        record=True,
        width=_WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )
    for view in draw(Screen(console, console)):
        console.print(view)
    if Path(path).suffix.lower() in (".html", ".htm"):
        text = console.export_html(code_format=_page(title))
    else:
        text = console.export_svg(title=title, code_format=_FORMAT)
    write_atomically(Path(path), text)


def _page(title: str) -> str:
    braced = escape(title).replace("{", "{{").replace("}", "}}")
    return _PAGE.replace("{title}", braced)
