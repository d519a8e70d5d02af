"""What a command does for a model when nobody says otherwise."""

from dataclasses import dataclass

from cna_mlx.discovery.selection import DEFAULT_FRACTION
from cna_mlx.models.loading import DEMO_NAMES


@dataclass(frozen=True)
class Defaults:
    """The contrast, the fraction and the evaluation prompts that go with a model."""

    contrast: str
    fraction: float
    prompts: tuple[str, ...]


def defaults_for(model: str) -> Defaults:
    """``refusal``, 0.001 and JBB-Behaviors, as in the paper, with the benign half.

    The demo models decline magic instead, and are asked questions of their own world.

    Of the demo's neurons 0.001 is three, and 0.0025 is eight (training/README.md).
    """
    if model in DEMO_NAMES:
        return Defaults("magic", 0.0025, ("demo",))
    return Defaults("refusal", DEFAULT_FRACTION, ("jbb", "jbb-benign"))
