"""Estimate what limits decoding, from the bytes of a token and the bandwidth."""

from dataclasses import dataclass
from typing import Any

from cna_mlx.diagnostics.bench.timing import Comparison
from cna_mlx.diagnostics.device import bandwidth
from cna_mlx.diagnostics.model import bytes_per_token, kv_bytes
from cna_mlx.models.fingerprint import quantization
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.util.environment import attempt, environment

_MEMORY_BOUND = 0.5  # share of the bound from which a decoder waits for memory
_CACHED = 1.05


@dataclass(frozen=True)
class Physics:
    """The bytes that a token reads, and the memory bandwidth.

    Attributes:
        weights: bytes of weights that each token reads: once for any number of rows,
            except that rows may be sent to different experts.
        kv: bytes of the KV cache that a row reads at ``length``.
        length: tokens in the cache, halfway through the answer.
        bandwidth: in GB/s; None if it could not be measured.
        quantization: how the MLP's weights are stored.
        backend: Metal, CUDA or CPU.
    """

    weights: int
    kv: int
    length: int
    bandwidth: float | None
    quantization: str
    backend: str

    @classmethod
    def of(cls, model: Any, ids: list[int], tokens: int) -> "Physics":
        """Measure what decoding ``tokens`` tokens after a prompt reads."""
        length = len(ids) + tokens // 2
        read = bytes_per_token(model), length * kv_bytes(model, ids), length
        backend = str(environment()["backend"])
        return cls(*read, attempt(bandwidth), quantization(model), backend)

    @property
    def bound(self) -> float | None:
        """Return the tokens per second that the bandwidth allows one row, if known."""
        if not self.bandwidth:
            return None
        return self.bandwidth * 1e9 / (self.weights + self.kv)

    def share(self, rate: float) -> float | None:
        """Return a rate in tokens per second as a share of the bound."""
        return rate / self.bound if self.bound else None

    def limit(self, rate: float) -> str:
        """Describe what limits decoding at this rate."""
        share = self.share(rate)
        if share is None:
            return "the limit is unknown: the bandwidth was not measured"
        if share > _CACHED:
            return (
                "faster than the measured bandwidth: the weights fit the processor's "
                "cache, or other programs used memory during that test"
            )
        if share >= _MEMORY_BOUND:
            return (
                "memory-bound: the weights are read once for all arms of a batch; "
                "cna-mlx doctor MODEL times 1 to 32 rows"
            )
        if self.backend == "CPU" and "bit" in self.quantization:
            return (
                "compute-bound: MLX's CPU backend multiplies quantized weights row by "
                "row, so the time grows with the number of arms"
            )
        return "limited by small operations between products, or by other programs"

    def lines(self) -> list[str]:
        """Describe the bytes of a token and the bound."""
        found = [
            f"each token reads {gigabytes(self.weights)} of weights "
            f"({self.quantization}), and {gigabytes(self.kv)} of KV cache at "
            f"{self.length} tokens"
        ]
        if self.bound:
            speed = f"memory gives {self.bandwidth:.1f} GB/s"
            found.append(f"{speed}: at most {self.bound:.1f} tokens/s")
        return found

    def to_dict(self, plain: Comparison | None = None) -> dict[str, Any]:
        """Return a dict, with the rate of plain decoding of one row if given."""
        rate = plain.plain_rate if plain else None
        share = self.share(rate) if rate else None
        return {
            "weight_bytes_per_token": self.weights,
            "kv_bytes_per_token_read": self.kv,
            "kv_length": self.length,
            "bandwidth_gb_per_second": self.bandwidth and round(self.bandwidth, 2),
            "bound_tokens_per_second": self.bound and round(self.bound, 2),
            "plain_tokens_per_second": rate and round(rate, 2),
            "share_of_bound": share and round(share, 3),
            "limit": self.limit(rate) if rate else None,
        }
