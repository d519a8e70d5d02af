"""What `cna-mlx bench` measures: ratios against plain mlx-lm, in one process.

Speeds drift with the machine, so a figure is a ratio of two ways timed in turn, and
nothing is asserted of it here. Nothing prints.
"""

from cna_mlx.diagnostics.bench.physics import Physics
from cna_mlx.diagnostics.bench.suite import (
    SHORT,
    Bench,
    Memory,
    Result,
    Settings,
    to_json,
)
from cna_mlx.diagnostics.bench.timing import Comparison, Spread

__all__ = [
    "SHORT",
    "Bench",
    "Comparison",
    "Memory",
    "Physics",
    "Result",
    "Settings",
    "Spread",
    "to_json",
]
