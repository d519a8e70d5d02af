"""What several commands take, as it was typed, and what it means."""

from dataclasses import dataclass
from datetime import date

from cna_mlx.discovery.defaults import defaults_for
from cna_mlx.discovery.selection import Selection
from cna_mlx.errors import InputError
from cna_mlx.models.loading import Streaming
from cna_mlx.prompts import PromptSet, contrast_from_files, load_contrast
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.prompts.validation import check_prompt


@dataclass(frozen=True)
class ModelOptions:
    """--revision and --offline, as typed, and what --stream comes to."""

    revision: str | None = None
    offline: bool = False
    stream: Streaming = "no"


@dataclass(frozen=True)
class RenderingOptions:
    """--chat-template, --system, --thinking and --date, as typed."""

    chat_template: str = "auto"
    system: str | None = None
    thinking: str = "off"
    date: str | None = None

    def rendering(self) -> Rendering:
        """What they mean.

        Raises:
            InputError: a date that is none, a system prompt that is no text.
        """
        plain = Rendering()
        day = plain.date
        if self.date is not None:
            try:
                day = date.fromisoformat(self.date)
            except ValueError:
                raise InputError(
                    f"--date {self.date!r}: write it as 2024-07-26"
                ) from None
        return Rendering(
            self.chat_template,  # type: ignore[arg-type]  # Rendering checks it
            self.system and typed(self.system, "--system"),
            self.thinking == "on",
            day,
        )


@dataclass(frozen=True)
class SelectionOptions:
    """--contrast and the others that say which neurons to look for, as typed."""

    contrast: str | None = None
    positive: str | None = None
    negative: str | None = None
    column: str | None = None
    fraction: float | None = None
    layers: str | None = None
    rank: str = "delta"
    universal: bool = True
    expect: bool = False

    def prompts(self, model: str) -> PromptSet:
        """The contrast: the user's files, the one that was named, or the default.

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
        return load_contrast(self.contrast or defaults_for(model).contrast)

    def selection(self, model: str) -> Selection:
        """How many neurons, by which score, from which layers.

        Raises:
            InputError: a value out of range.
        """
        fraction = self.fraction
        if fraction is None:
            fraction = defaults_for(model).fraction
        return Selection(fraction, self.rank, self._band(), self.universal)  # type: ignore[arg-type]

    def _band(self) -> tuple[int, int] | None:
        if self.layers is None:
            return None
        first, dash, last = self.layers.partition("-")
        if not (dash and first.strip().isdecimal() and last.strip().isdecimal()):
            raise InputError(f"--layers {self.layers!r}: write it as 8-23")
        return int(first), int(last)


def typed(text: str, where: str) -> str:
    """A prompt from the command line, whatever the locale made of its bytes.

    Raises:
        InputError: it is blank, or no UTF-8.
    """
    # Python hides bytes that the locale cannot decode in half surrogate pairs
    whole = text.encode("utf-8", "surrogateescape")
    return check_prompt(whole.decode("utf-8", "surrogateescape"), where)
