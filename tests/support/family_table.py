"""The README's table of families, from the families themselves.

python tests/support/family_table.py   # writes it into README.md
"""

from pathlib import Path

from cna_mlx.models.families import by_kind

README = Path(__file__).parents[2] / "README.md"
_HEAD = "| MLP | families |"


def with_table(text: str) -> str:
    """A text with the lines of its table made again."""
    before, _, rest = text.partition(f"{_HEAD}\n")
    assert rest, f"no table under {_HEAD}"
    lines = rest.splitlines(keepends=True)
    end = next((n for n, line in enumerate(lines) if line[0] != "|"), len(lines))
    rows = [f"| {kind} | {', '.join(names)} |\n" for kind, names in by_kind().items()]
    return "".join([before, f"{_HEAD}\n", "|---|---|\n", *rows, *lines[end:]])


if __name__ == "__main__":
    README.write_text(with_table(README.read_text("utf-8")), "utf-8")
