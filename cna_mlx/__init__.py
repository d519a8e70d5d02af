"""Contrastive Neuron Attribution on MLX: find, scale and compare refusal neurons."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cna_mlx.circuit import Circuit
    from cna_mlx.discovery import discover
    from cna_mlx.errors import CnaError
    from cna_mlx.evaluation.labels import Label, Verdict, label
    from cna_mlx.generation import Answer, Arm, Token, generate_arms
    from cna_mlx.models.loading import load
    from cna_mlx.rendering import Rendering, render, render_prompt
    from cna_mlx.sampling import Greedy, Sampled
    from cna_mlx.steering import MeanDifference, steered

__all__ = [
    "Answer",
    "Arm",
    "Circuit",
    "CnaError",
    "Greedy",
    "Label",
    "MeanDifference",
    "Rendering",
    "Sampled",
    "Token",
    "Verdict",
    "discover",
    "generate_arms",
    "label",
    "load",
    "render",
    "render_prompt",
    "steered",
]

# Importing MLX takes longer than `cna-mlx --help` may: a name is fetched at first use.
_HOMES = {
    "cna_mlx.circuit": ("Circuit",),
    "cna_mlx.discovery": ("discover",),
    "cna_mlx.errors": ("CnaError",),
    "cna_mlx.evaluation.labels": ("Label", "Verdict", "label"),
    "cna_mlx.generation": (
        "Answer",
        "Arm",
        "Token",
        "generate_arms",
    ),
    "cna_mlx.models.loading": ("load",),
    "cna_mlx.rendering": ("Rendering", "render", "render_prompt"),
    "cna_mlx.sampling": ("Greedy", "Sampled"),
    "cna_mlx.steering": ("MeanDifference", "steered"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'cna_mlx' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
