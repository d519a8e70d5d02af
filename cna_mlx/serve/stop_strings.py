"""End a growing text at the first of some strings."""

from collections.abc import Sequence


class StopStrings:
    """Pass a text on in parts, but nothing from the first stop string on.

    A part that a stop string may begin with is held back until more is known.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""

    def take(self, text: str) -> tuple[str, bool]:
        """The text that can be passed on, and whether a stop string was found."""
        held = self._held + text
        found = [
            (at + len(stop), at) for stop in self._stops if (at := held.find(stop)) >= 0
        ]
        if found:  # the one that is whole first, however the text is cut into parts
            self._held = ""
            return held[: min(found)[1]], True
        kept = self._beginning(held)
        self._held = held[len(held) - kept :]
        return held[: len(held) - kept], False

    def rest(self) -> str:
        """What was held back, when the text has ended."""
        held, self._held = self._held, ""
        return held

    def _beginning(self, text: str) -> int:
        """The length of the longest end of a text that a stop string begins with."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[len(text) - size :]) for stop in self._stops):
                return size
        return 0
