"""Messages of several lines, between three quotes and three quotes."""

_QUOTES = '"""'


def is_open(text: str) -> bool:
    """Whether a text begins with three quotes and does not end with three more."""
    body = text.lstrip()
    is_quoted = body.startswith(_QUOTES)
    return is_quoted and not body.removeprefix(_QUOTES).rstrip().endswith(_QUOTES)


def unquoted(text: str) -> str:
    """The message without its three quotes, which may not be closed yet."""
    body = text.lstrip()
    if not body.startswith(_QUOTES):
        return text
    return body.removeprefix(_QUOTES).rstrip().removesuffix(_QUOTES).strip("\n")
