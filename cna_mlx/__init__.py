"""Contrastive Neuron Attribution on MLX: find, scale and compare refusal neurons."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cna_mlx.circuit import Circuit
    from cna_mlx.discovery.discover import discover
    from cna_mlx.errors import CnaError
    from cna_mlx.labels.label import Label, LabelKind, label
    from cna_mlx.models.loading import load
    from cna_mlx.prompts.chat_template import Rendering, render, render_prompt
    from cna_mlx.steering.arms import Arm
    from cna_mlx.steering.events import Answer, Token
    from cna_mlx.steering.generation import generate_arms
    from cna_mlx.steering.interventions import MeanDifference, steered
    from cna_mlx.steering.sampling import Greedy, Sampled

__all__ = [
    "Answer",
    "Arm",
    "Circuit",
    "CnaError",
    "Greedy",
    "Label",
    "LabelKind",
    "MeanDifference",
    "Rendering",
    "Sampled",
    "Token",
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
    "cna_mlx.discovery.discover": ("discover",),
    "cna_mlx.errors": ("CnaError",),
    "cna_mlx.labels.label": ("Label", "LabelKind", "label"),
    "cna_mlx.steering.arms": ("Arm",),
    "cna_mlx.steering.events": ("Answer", "Token"),
    "cna_mlx.steering.generation": ("generate_arms",),
    "cna_mlx.models.loading": ("load",),
    "cna_mlx.prompts.chat_template": ("Rendering", "render", "render_prompt"),
    "cna_mlx.steering.sampling": ("Greedy", "Sampled"),
    "cna_mlx.steering.interventions": ("MeanDifference", "steered"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'cna_mlx' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
