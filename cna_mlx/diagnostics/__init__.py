"""What `cna-mlx doctor` finds out: facts about a machine, and checks on it.

Nothing here prints. A section is a heading and a stream of :class:`Fact` and
:class:`Check`; a check that comes to an exception is a failed check, and the next one
is made all the same.
"""

from cna_mlx.diagnostics.results import Check, Fact, Item, Section

__all__ = ["Check", "Fact", "Item", "Section"]
