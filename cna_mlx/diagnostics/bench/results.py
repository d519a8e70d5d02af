"""What a bench yields, and its JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.diagnostics.bench.physics import Physics
from cna_mlx.diagnostics.bench.timing import Comparison


@dataclass(frozen=True)
class Memory:
    """Measured and forecast memory beyond the weights.

    Attributes:
        name: the key in JSON.
        title: a description of the work.
        measured, forecast: bytes.
        seconds: how long the work took.
    """

    name: str
    title: str
    measured: int
    forecast: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The bytes and seconds as a dict."""
        return {
            "measured_bytes": self.measured,
            "forecast_bytes": self.forecast,
            "seconds": round(self.seconds, 2),
        }


Result = Physics | Comparison | Memory


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """Results as a dict: the ratios first, then their details."""
    comparisons = {one.name: one for one in results if isinstance(one, Comparison)}
    physics = next((one for one in results if isinstance(one, Physics)), None)
    plain = comparisons.get("steered_decode")
    memory = (one for one in results if isinstance(one, Memory))
    return {
        "ratios": {name: round(one.ratio[1], 4) for name, one in comparisons.items()},
        "physics": physics.to_json(plain) if physics else None,
        "comparisons": {name: one.to_json() for name, one in comparisons.items()},
        "memory": {one.name: one.to_json() for one in memory},
    }
