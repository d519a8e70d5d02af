"""What limits decoding: the bytes of a token, and how fast memory is read."""

from dataclasses import dataclass
from typing import Any

from cna_mlx.diagnostics.bench.timing import Comparison
from cna_mlx.diagnostics.model import bytes_per_token, kv_bytes
from cna_mlx.models.fingerprint import quantization
from cna_mlx.models.memory.machine import gigabytes

# Of the bound: a decoder that reaches this much is waiting for memory.
_MEMORY_BOUND = 0.5
_CACHED = 1.05


@dataclass(frozen=True)
class Physics:
    """What a token costs to read, and how fast that can be done.

    Attributes:
        weights: bytes of weights that every token reads, whatever the number of rows.
        kv: bytes of the KV cache that a row reads at ``length``.
        length: tokens in the cache, halfway through the answer.
        bandwidth: in GB/s; None if it could not be measured.
        quantization: how the MLP's weights are stored.
        backend: Metal, CUDA, CPU.
    """

    weights: int
    kv: int
    length: int
    bandwidth: float | None
    quantization: str
    backend: str

    @classmethod
    def of(
        cls,
        model: Any,
        ids: list[int],
        tokens: int,
        bandwidth: float | None,
        backend: str,
    ) -> "Physics":
        """What decoding some tokens after a prompt has to read.

        The weights are all parameters but the embedding table, of which a token reads
        one row; a table that is the unembedding as well is read whole, once.

        Args:
            model: as :func:`cna_mlx.load` returns it.
            ids: the prompt.
            tokens: of the answer.
            bandwidth: in GB/s.
            backend: Metal, CUDA, CPU.
        """
        length = len(ids) + tokens // 2
        kv = length * kv_bytes(model, ids)
        kind = quantization(model)
        return cls(bytes_per_token(model), kv, length, bandwidth, kind, backend)

    def bound(self, rows: int = 1) -> float | None:
        """Tokens per second, all rows together, that the bandwidth allows.

        Args:
            rows: of one batch: they share the weights, and have a KV cache each.
        """
        if not self.bandwidth:
            return None
        return rows * self.bandwidth * 1e9 / (self.weights + rows * self.kv)

    def share(self, rate: float) -> float | None:
        """The share that a rate in tokens per second has of the bound of one row."""
        bound = self.bound()
        return rate / bound if bound else None

    def limit(self, rate: float) -> str:
        """What decoding waits for at this rate, in words."""
        share = self.share(rate)
        if share is None:
            return "what limits it is unknown: the bandwidth could not be measured"
        if share > _CACHED:
            return (
                "faster than memory was when it was measured: small weights stay in "
                "the processor's cache, or something else kept memory busy then"
            )
        if share >= _MEMORY_BOUND:
            return "it waits for memory: more arms in a batch cost little"
        if self.backend == "CPU" and "bit" in self.quantization:
            return (
                "it computes: MLX's CPU backend works quantized products out rather "
                "than waiting for memory, so more arms cost nearly their number; a "
                "GPU waits for memory"
            )
        return (
            "it waits for something else than memory: the small steps between the "
            "products, or other programs"
        )

    def lines(self, plain: Comparison | None = None) -> list[str]:
        """All of it in words, with the rate reached if there is one.

        Args:
            plain: of one row; the plain way's rate is the one that is told.
        """
        found = [
            f"each token reads {gigabytes(self.weights)} of weights "
            f"({self.quantization}), and {_small(self.kv)} of KV cache at "
            f"{self.length} tokens"
        ]
        bound = self.bound()
        if bound and self.bandwidth:
            found.append(
                f"memory gives {self.bandwidth:.1f} GB/s: at most {bound:.1f} tokens/s"
            )
        if plain is not None:
            rate = plain.plain_rate
            share = self.share(rate)
            reached = f", {share:.0%} of that" if share else ""
            found.append(f"mlx-lm reaches {rate:.1f} tokens/s{reached}")
            found.append(self.limit(rate))
        return found

    def to_json(self, plain: Comparison | None = None) -> dict[str, Any]:
        """The same as plain data."""
        rate = plain.plain_rate if plain else None
        bound = self.bound()
        share = self.share(rate) if rate else None
        return {
            "weight_bytes_per_token": self.weights,
            "kv_bytes_per_token_read": self.kv,
            "kv_length": self.length,
            "bandwidth_gb_per_second": self.bandwidth and round(self.bandwidth, 2),
            "bound_tokens_per_second": bound and round(bound, 2),
            "plain_tokens_per_second": rate and round(rate, 2),
            "share_of_bound": share and round(share, 3),
            "limit": self.limit(rate) if rate else None,
        }


def _small(size: int) -> str:
    return gigabytes(size) if size >= 1_000_000 else f"{size / 1000:.0f} kB"
