"""What `cna-mlx doctor` finds: facts and checks on a machine and a model."""

from cna_mlx.diagnostics.results import Check, Fact, Item, Section

__all__ = ["Check", "Fact", "Item", "Section"]
