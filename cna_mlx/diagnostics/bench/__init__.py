"""Measure a model's speed and memory as ratios against plain mlx-lm in one process."""

from cna_mlx.diagnostics.bench.physics import Physics
from cna_mlx.diagnostics.bench.results import Memory, Result, to_json
from cna_mlx.diagnostics.bench.suite import SHORT, Bench, Settings
from cna_mlx.diagnostics.bench.timing import Comparison

__all__ = [
    "SHORT",
    "Bench",
    "Comparison",
    "Memory",
    "Physics",
    "Result",
    "Settings",
    "to_json",
]
