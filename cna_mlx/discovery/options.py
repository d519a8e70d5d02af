"""Options of a discovery, and their defaults for each model."""

from dataclasses import dataclass, replace

from cna_mlx.discovery.selection import DEFAULT_FRACTION, Rank, Selection
from cna_mlx.errors import InputError
from cna_mlx.models.loading import DEMO_NAMES
from cna_mlx.prompts import PromptSet, contrast_from_files, load_contrast
from cna_mlx.util.files import File
from cna_mlx.util.progress import SILENT, Reporter


@dataclass(frozen=True)
class Defaults:
    """The default contrast, fraction and evaluation prompts of a model."""

    contrast: str
    fraction: float
    prompts: tuple[str, ...]


def defaults_for(model: str) -> Defaults:
    """Return the paper's defaults plus the benign half of JBB, or the demo's.

    The demo models refuse magic and are asked about their own world. 0.0025 of the
    demo's neurons are eight, and 0.001 only three (training/README.md).
    """
    if model in DEMO_NAMES:
        return Defaults("magic", 0.0025, ("demo",))
    return Defaults("refusal", DEFAULT_FRACTION, ("jbb", "jbb-benign"))


@dataclass(frozen=True)
class DiscoveryOptions:
    """The contrast and how its neurons are ranked; None means the model's default.

    Attributes:
        contrast: the name of a built-in contrast, or your own contrast.
        positive, negative: files of prompts, in place of ``contrast``.
        column: the column or key that holds the prompts in files that do not name
            their own, ``FILE:COLUMN``.
        limit: prompts of each side, spread evenly; None for all.
        fraction, rank, layers, universal, positions: as in :class:`Selection`.
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
    positions: int = 1
    limit: int | None = None

    @property
    def names_prompts(self) -> bool:
        """Whether prompts are given."""
        return any((self.contrast, self.positive, self.negative))

    def prompts(self, model: str) -> PromptSet:
        """Return the given contrast, or the default of this model.

        Raises:
            InputError: half of a pair, both kinds, or prompts that cannot be used.
        """
        given = self.read().contrast or defaults_for(model).contrast
        whole = given if isinstance(given, PromptSet) else load_contrast(given)
        return whole.limited(self.limit)

    def read(
        self, reporter: Reporter = SILENT, *, offline: bool = False
    ) -> "DiscoveryOptions":
        """Return the options with the files' contrast in their place.

        The reporter names the columns that were read. ``offline`` is for Hub data sets.

        Raises:
            InputError: half of a pair, both kinds, or prompts that cannot be used.
            HubError: the network or the Hub failed.
        """
        files = (self.positive, self.negative)
        if any(files) and (not all(files) or self.contrast):
            raise InputError(
                "give --positive FILE and --negative FILE together, or --contrast NAME"
            )
        if not (self.positive and self.negative):
            return self
        contrast = contrast_from_files(
            self.positive,
            self.negative,
            self.column,
            offline=offline,
            reporter=reporter,
        )
        return replace(self, contrast=contrast, positive=None, negative=None)

    def selection(self, model: str) -> Selection:
        """Return how many neurons to keep, by which score and from which layers.

        Raises:
            InputError: a value is out of range.
        """
        fraction = self.fraction
        if fraction is None:
            fraction = defaults_for(model).fraction
        return Selection(
            fraction, self.rank, self.layers, self.universal, self.positions
        )
