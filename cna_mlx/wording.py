"""Numbers in sentences."""


def counted(count: int, noun: str) -> str:
    """``1 turn``, ``2 turns``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
