"""What patching a circuit showed, on the screen."""

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.analysis.patching import PatchEffect, Turned
from cna_mlx.analysis.patching_run import PatchResult
from cna_mlx.ui.console import Screen
from cna_mlx.ui.lists import bullets, table_or_lines
from cna_mlx.util.formatting import counted, decimal, percent, rate

_TITLES = {
    "sufficient": "answered prompts with the activations of refused ones: now refused",
    "necessary": "refused prompts with the activations of answered ones: now answered",
}


def patch_view(screen: Screen, found: PatchResult) -> RenderableType:
    """The verdicts, then what each arm does."""
    parts: list[RenderableType] = [
        *bullets(screen, [one.statement for one in found.effects]),
        *bullets(screen, [_limits(found)]),
    ]
    for one in found.effects:
        parts += [Text(), screen.safe(_TITLES[one.claim], "bold"), _table(screen, one)]
    return Group(*parts)


def _limits(found: PatchResult) -> str:
    seen = {
        True: " The circuit's discovery used these prompts.",
        False: "",
        None: " Whether the circuit's discovery used these prompts is unknown.",
    }[found.seen]
    return (
        f"This holds for {counted(found.done, 'pair')} of {found.contrast} that the "
        "model refuses and answers, patched at the prompt's last token. "
        f"The labels are a heuristic.{seen}"
    )


def _table(screen: Screen, one: PatchEffect) -> RenderableType:
    arms = [("the circuit", one.patched)]
    if strongest := max(one.controls, key=_count, default=None):
        arms.append((f"matched, most of {len(one.controls)}", strongest))
    rows = [_row(name, each) for name, each in arms]
    return table_or_lines(screen, ("", "turned", "share", "INVALID", "quality"), rows)


def _count(one: Turned) -> int:
    return one.turned.successes


def _row(name: str, one: Turned) -> list[str]:
    return [
        f"  {name}",
        f"{one.turned.successes} of {one.turned.n}",
        rate(one.turned),
        percent(one.invalid.value),
        decimal(one.quality),
    ]
