"""Say what limits decoding, from a token's bytes, the bandwidth and rows' costs."""

from dataclasses import dataclass
from typing import Any

from cna_mlx.diagnostics.bench.costs import Costs
from cna_mlx.diagnostics.device import bandwidth
from cna_mlx.diagnostics.model import bytes_per_token, kv_bytes
from cna_mlx.models.fingerprint import quantization
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.util.environment import attempt, environment

_MEMORY_BOUND = 0.5  # share of the bound from which a decoder waits for memory
_COMPUTE_BOUND = 0.5  # share of a step that a row adds: a batch gains 2 times at most
_CACHED = 1.05


@dataclass(frozen=True)
class Physics:
    """The bytes that a token reads, the memory bandwidth, and what rows cost.

    Attributes:
        weights: bytes of weights that each token reads: once for any number of rows,
            except that rows may be sent to different experts.
        kv: bytes of the KV cache that a row reads.
        bandwidth: in GB/s; None if it could not be measured.
        quantization: how the MLP's weights are stored.
        backend: Metal, CUDA or CPU.
        costs: of steps by their rows, with so many tokens in the cache.
    """

    weights: int
    kv: int
    bandwidth: float | None
    quantization: str
    backend: str
    costs: Costs

    @classmethod
    def of(cls, model: Any, costs: Costs) -> "Physics":
        """Measure what a token reads after a prompt of the costs' length."""
        kv = costs.length * kv_bytes(model, [0, 0])
        backend = str(environment()["backend"])
        rate = attempt(bandwidth)
        stored = quantization(model)
        return cls(bytes_per_token(model), kv, rate, stored, backend, costs)

    @property
    def bound(self) -> float | None:
        """Return the tokens per second that the bandwidth allows one row, if known."""
        if not self.bandwidth:
            return None
        return self.bandwidth * 1e9 / (self.weights + self.kv)

    @property
    def rate(self) -> float:
        """Return the steps per second of one row."""
        return 1 / self.costs.steps[1]

    @property
    def share(self) -> float | None:
        """Return the rate as a share of the bound."""
        return self.rate / self.bound if self.bound else None

    @property
    def limit(self) -> str:
        """Describe what limits decoding."""
        added, share = self.costs.added, self.share
        rows = "" if added is None else f"; each further row adds {added:.0%} of a step"
        if added is not None and added >= _COMPUTE_BOUND:
            said = f"compute-bound{rows}: a batch of arms gains little"
            if self.backend == "CPU" and "bit" in self.quantization:
                said += "; MLX's CPU backend multiplies quantized weights row by row"
            return said
        if share is None:
            return f"the bandwidth was not measured{rows}"
        if share > _CACHED:
            return (
                "faster than the measured bandwidth: the weights fit the processor's "
                f"cache, or other programs used memory during that test{rows}"
            )
        if share >= _MEMORY_BOUND:
            return f"memory-bound: the weights are read once for all rows{rows}"
        return (
            "limited by what a step does once for all rows (such as many small "
            f"operations), or by other programs{rows}"
        )

    def lines(self) -> list[str]:
        """Describe the bytes of a token, the bound, the rows and the limit."""
        found = [
            f"each token reads {gigabytes(self.weights)} of weights "
            f"({self.quantization}), and {gigabytes(self.kv)} of KV cache at "
            f"{self.costs.length} tokens"
        ]
        reached = f"a step of one row takes {1000 * self.costs.steps[1]:.3g} ms"
        if self.bound:
            speed = f"memory gives {self.bandwidth:.1f} GB/s"
            found.append(f"{speed}: at most {self.bound:.1f} tokens/s")
            reached += f": {self.rate:.1f} tokens/s, {self.share:.0%} of that"
        found.append(reached)
        many = [rows for rows in self.costs.steps if rows > 1]
        if many:
            costs = (f"{self.costs.relative(rows):.2f} ({rows} rows)" for rows in many)
            found.append(f"more rows take {', '.join(costs)} times as long")
        return [*found, self.limit]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a dict."""
        steps = self.costs.steps.items()
        return {
            "weight_bytes_per_token": self.weights,
            "kv_bytes_per_token_read": self.kv,
            "kv_length": self.costs.length,
            "bandwidth_gb_per_second": self.bandwidth and round(self.bandwidth, 2),
            "bound_tokens_per_second": self.bound and round(self.bound, 2),
            "step_seconds_by_rows": {str(rows): round(one, 6) for rows, one in steps},
            "prefill_seconds": round(self.costs.prefill, 6),
            "share_of_bound": self.share and round(self.share, 3),
            "share_of_step_per_row": self.costs.added and round(self.costs.added, 3),
            "limit": self.limit,
        }
