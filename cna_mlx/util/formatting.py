"""Numbers in sentences."""


def counted(count: int, noun: str) -> str:
    """``1 turn``, ``2 turns``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def p_value(p: float) -> str:
    """A p-value with two digits; small ones as a power of ten."""
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"


def duration(seconds: float) -> str:
    """Seconds as people say them: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
