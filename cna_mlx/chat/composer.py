"""Lines in, messages out."""


class Composer:
    """Lines in, messages out: three quotes begin and end one of several lines."""

    _QUOTES = '"""'

    def __init__(self) -> None:
        self._lines: list[str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a message of several lines has begun and not ended."""
        return self._lines is not None

    def feed(self, line: str) -> str | None:
        """Take a line; a whole message if it completes one."""
        if self._lines is None:
            if not line.lstrip().startswith(self._QUOTES):
                return line
            line = line.lstrip().removeprefix(self._QUOTES)
            self._lines = []
        if line.rstrip().endswith(self._QUOTES):
            self._lines.append(line.rstrip().removesuffix(self._QUOTES))
            return self.close()
        self._lines.append(line)
        return None

    def close(self) -> str:
        """End the message here, as at the end of the input."""
        text = "\n".join(self._lines or []).strip("\n")
        self._lines = None
        return text
