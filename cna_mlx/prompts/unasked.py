"""Choose prompts that a run did not ask; loads nothing."""

from collections.abc import Iterable

from cna_mlx.models.demo_names import DEMO_NAMES

# Sets with prompts that a model may refuse.
_SETS = ("jbb", "xstest")
_DEMO_SETS = ("demo",)


def other_prompts(model: str, asked: Iterable[str]) -> str:
    """The option for prompts that fit a model, of another set than those asked."""
    known = frozenset(asked)
    sets = _DEMO_SETS if model in DEMO_NAMES else _SETS
    return f"--prompts {next((one for one in sets if one not in known), 'FILE')}"
