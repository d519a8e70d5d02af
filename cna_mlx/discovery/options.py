"""Options of a discovery."""

from dataclasses import dataclass

from cna_mlx.discovery.defaults import defaults_for
from cna_mlx.discovery.selection import Rank, Selection
from cna_mlx.errors import InputError
from cna_mlx.prompts import PromptSet, contrast_from_files, load_contrast
from cna_mlx.util.files import File


@dataclass(frozen=True)
class DiscoveryOptions:
    """The contrast and how its neurons are ranked; None means the model's default.

    Attributes:
        contrast: the name of a built-in contrast, or your own contrast.
        positive, negative: files of prompts, in place of ``contrast``.
        column: the column or key of these files that holds the prompts.
        fraction, rank, layers, universal: as in :class:`Selection`.
        expect: try a new circuit on a few held-out prompts.
    """

    contrast: str | PromptSet | None = None
    positive: File | None = None
    negative: File | None = None
    column: str | None = None
    fraction: float | None = None
    layers: tuple[int, int] | None = None
    rank: Rank = "delta"
    universal: bool = True
    expect: bool = False

    @property
    def names_prompts(self) -> bool:
        """Whether prompts are given."""
        return any((self.contrast, self.positive, self.negative))

    def prompts(self, model: str) -> PromptSet:
        """Return the given contrast, or the default of this model.

        Raises:
            InputError: half of a pair, both kinds, or prompts that cannot be used.
        """
        files = (self.positive, self.negative)
        if any(files) and (not all(files) or self.contrast):
            raise InputError(
                "give --positive FILE and --negative FILE together, or --contrast NAME"
            )
        if self.positive and self.negative:
            return contrast_from_files(self.positive, self.negative, self.column)
        if isinstance(self.contrast, PromptSet):
            return self.contrast
        return load_contrast(self.contrast or defaults_for(model).contrast)

    def selection(self, model: str) -> Selection:
        """Return how many neurons to keep, by which score and from which layers.

        Raises:
            InputError: a value is out of range.
        """
        fraction = self.fraction
        if fraction is None:
            fraction = defaults_for(model).fraction
        return Selection(fraction, self.rank, self.layers, self.universal)
