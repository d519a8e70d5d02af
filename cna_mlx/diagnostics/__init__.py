"""Facts and checks of `cna-mlx doctor`, and the benchmark."""

from cna_mlx.diagnostics.results import Check, Fact, Item, Section

__all__ = ["Check", "Fact", "Item", "Section"]
