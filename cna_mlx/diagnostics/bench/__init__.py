"""Measure a model's speed against plain mlx-lm in one process, and its memory."""

from cna_mlx.diagnostics.bench.physics import Physics
from cna_mlx.diagnostics.bench.suite import (
    SHORT,
    Bench,
    Memory,
    Omitted,
    Result,
    Settings,
    to_json,
)
from cna_mlx.diagnostics.bench.timing import Comparison

__all__ = [
    "SHORT",
    "Bench",
    "Comparison",
    "Memory",
    "Omitted",
    "Physics",
    "Result",
    "Settings",
    "to_json",
]
