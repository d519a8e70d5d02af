"""Contrastive Neuron Attribution on MLX: find, scale and compare refusal neurons."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cna_mlx.analysis.comparison_run import compare as compare
    from cna_mlx.analysis.metrics import Summary as Summary
    from cna_mlx.analysis.patching_run import PatchOptions as PatchOptions
    from cna_mlx.analysis.patching_run import PatchResult as PatchResult
    from cna_mlx.analysis.patching_run import patch_circuit as patch_circuit
    from cna_mlx.analysis.run import Run as Run
    from cna_mlx.analysis.run import audit as audit
    from cna_mlx.analysis.run import evaluate as evaluate
    from cna_mlx.circuit import Circuit as Circuit
    from cna_mlx.discovery.discover import discover as discover
    from cna_mlx.discovery.options import DiscoveryOptions as DiscoveryOptions
    from cna_mlx.discovery.probe import probe as probe
    from cna_mlx.errors import CnaError as CnaError
    from cna_mlx.evaluation.options import EvalOptions as EvalOptions
    from cna_mlx.labels.label import Label as Label
    from cna_mlx.labels.label import LabelKind as LabelKind
    from cna_mlx.labels.label import label as label
    from cna_mlx.models.loading import ModelOptions as ModelOptions
    from cna_mlx.models.loading import load as load
    from cna_mlx.prompts.benchmarks import Benchmark as Benchmark
    from cna_mlx.prompts.chat_template import Rendering as Rendering
    from cna_mlx.prompts.chat_template import render as render
    from cna_mlx.prompts.chat_template import render_prompt as render_prompt
    from cna_mlx.prompts.contrasts import PromptSet as PromptSet
    from cna_mlx.report.circuit_page import write_circuit_page as write_circuit_page
    from cna_mlx.report.export import export_run as export_run
    from cna_mlx.report.runs_page import write_runs_page as write_runs_page
    from cna_mlx.report.stability_page import (
        write_stability_page as write_stability_page,
    )
    from cna_mlx.report.writing import write_report as write_report
    from cna_mlx.search.result import SearchOptions as SearchOptions
    from cna_mlx.search.result import SearchResult as SearchResult
    from cna_mlx.search.search import search_circuit as search_circuit
    from cna_mlx.search.shrink import shrink_circuit as shrink_circuit
    from cna_mlx.search.shrink_result import ShrinkResult as ShrinkResult
    from cna_mlx.search.stability import stability as stability
    from cna_mlx.steering.arms import Arm as Arm
    from cna_mlx.steering.events import Answer as Answer
    from cna_mlx.steering.events import Token as Token
    from cna_mlx.steering.generation import generate_arms as generate_arms
    from cna_mlx.steering.interventions import MeanDifference as MeanDifference
    from cna_mlx.steering.interventions import steered as steered
    from cna_mlx.steering.sampling import Greedy as Greedy
    from cna_mlx.steering.sampling import Sampled as Sampled
    from cna_mlx.strength import Pin as Pin
    from cna_mlx.util.progress import Reporter as Reporter

__version__ = "0.2.0"

# Importing MLX takes longer than `cna-mlx --help` may: a name is fetched at first use.
_HOMES = {
    "analysis.comparison_run": ("compare",),
    "analysis.metrics": ("Summary",),
    "analysis.patching_run": ("PatchOptions", "PatchResult", "patch_circuit"),
    "analysis.run": ("Run", "audit", "evaluate"),
    "circuit": ("Circuit",),
    "discovery.discover": ("discover",),
    "discovery.options": ("DiscoveryOptions",),
    "discovery.probe": ("probe",),
    "errors": ("CnaError",),
    "evaluation.options": ("EvalOptions",),
    "labels.label": ("Label", "LabelKind", "label"),
    "models.loading": ("ModelOptions", "load"),
    "prompts.benchmarks": ("Benchmark",),
    "prompts.chat_template": ("Rendering", "render", "render_prompt"),
    "prompts.contrasts": ("PromptSet",),
    "report.circuit_page": ("write_circuit_page",),
    "report.export": ("export_run",),
    "report.runs_page": ("write_runs_page",),
    "report.stability_page": ("write_stability_page",),
    "report.writing": ("write_report",),
    "search.result": ("SearchOptions", "SearchResult"),
    "search.search": ("search_circuit",),
    "search.shrink": ("shrink_circuit",),
    "search.shrink_result": ("ShrinkResult",),
    "search.stability": ("stability",),
    "steering.arms": ("Arm",),
    "steering.events": ("Answer", "Token"),
    "steering.generation": ("generate_arms",),
    "steering.interventions": ("MeanDifference", "steered"),
    "steering.sampling": ("Greedy", "Sampled"),
    "strength": ("Pin",),
    "util.progress": ("Reporter",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'cna_mlx' has no attribute {name!r}")
    return getattr(import_module(f"cna_mlx.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
