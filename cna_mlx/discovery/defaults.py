"""Defaults of the commands for each model."""

from dataclasses import dataclass

from cna_mlx.discovery.selection import DEFAULT_FRACTION
from cna_mlx.models.loading import DEMO_NAMES


@dataclass(frozen=True)
class Defaults:
    """The default contrast, fraction and evaluation prompts of a model."""

    contrast: str
    fraction: float
    prompts: tuple[str, ...]


def defaults_for(model: str) -> Defaults:
    """Return the paper's defaults plus the benign half of JBB, or the demo's.

    The demo models refuse magic and are asked about their own world. 0.0025 of the
    demo's neurons are eight, and 0.001 only three (training/README.md).
    """
    if model in DEMO_NAMES:
        return Defaults("magic", 0.0025, ("demo",))
    return Defaults("refusal", DEFAULT_FRACTION, ("jbb", "jbb-benign"))
