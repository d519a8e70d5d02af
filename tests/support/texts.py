"""Look for figures and names in a message, whatever words stand around them."""


def missing(text: str, *parts: str) -> list[str]:
    """The parts that a text does not contain, ignoring case and line breaks."""
    folded = " ".join(text.split()).casefold()
    return [part for part in parts if part.casefold() not in folded]
