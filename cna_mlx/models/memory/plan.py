"""Plan a model's memory from its files, before it is loaded."""

from dataclasses import dataclass, replace
from typing import Literal

from cna_mlx.errors import ModelError
from cna_mlx.models import catalogue
from cna_mlx.models.memory.forecast import (
    Shape,
    Workload,
    causal_bytes,
    discovery_bytes,
    influence_bytes,
    kept_bytes,
    steering_bytes,
)
from cna_mlx.models.memory.machine import Machine, gigabytes
from cna_mlx.models.memory.rates import Rates

# Above this share of the usable memory other programs and MLX's cache cause paging.
TIGHT = 0.9
ARMS, _TOKENS = 2, 2048

# Published variants of the catalogue's models, and the bits of a weight.
QUANTIZATIONS = {"4-bit": 4, "8-bit": 8, "bf16": 16}

Fit = Literal["whole", "streamed", "no"]


@dataclass(frozen=True)
class Plan:
    """The memory that a model needs, in bytes, and what the machine has.

    Attributes:
        name: of the model.
        weights: bytes of all weights.
        shape: decides the rest.
        machine: the machine's memory.
        layer: bytes of the largest layer; an even share of the weights if None.
        table: bytes of the embedding if it can only be read whole, else 0.
        is_streamed: whether the weights stay on the disk.
        arms: arms of a conversation of 2,048 tokens; 0 for a discovery alone.
        rates: of reading and multiplying them, if measured.
        ranks: how many share the model out; the rest is of one of them.
    """

    name: str
    weights: int
    shape: Shape
    machine: Machine
    layer: int | None = None
    table: int = 0
    is_streamed: bool = False
    arms: int = ARMS
    rates: Rates | None = None
    ranks: int = 1

    def of_rank(self, count: int, outside: int) -> "Plan":
        """What one of several ranks needs.

        Args:
            outside: bytes of the weights outside the layers, which every rank holds.
        """
        return replace(
            self,
            weights=outside + (self.weights - outside) // count,
            shape=self.shape.of_rank(count),
            ranks=count,
        )

    @property
    def discovery(self) -> int:
        """What a discovery with the built-in prompts needs besides the weights."""
        return discovery_bytes(self.shape)

    @property
    def influence(self) -> int:
        """What ``--rank influence`` needs besides, for the built-in prompts."""
        return influence_bytes(self.shape)

    @property
    def causal(self) -> int:
        """What ``--rank causal`` needs besides, for the built-in prompts."""
        return causal_bytes(self.shape)

    @property
    def streamed(self) -> int:
        """What such a discovery needs in all if the weights stay on the disk."""
        return streamed_bytes(self.shape, self._layer, self.table)

    @property
    def tokens(self) -> int:
        """The assumed length of a conversation: 2,048 tokens, or the context."""
        return min(_TOKENS, self.shape.context or _TOKENS)

    @property
    def needed(self) -> int:
        """Weights, what the arms hold, a discovery; or a streamed discovery."""
        kept = kept_bytes(self.shape)
        if self.is_streamed:
            return self.streamed + kept
        return self.weights + self.arms_bytes + self.discovery + kept

    @property
    def arms_bytes(self) -> int:
        """What the arms hold: KV caches, recurrent states, scales of the neurons."""
        tokens = self.tokens * self.shape.kv_per_token
        cache = self.arms * (tokens + self.shape.state_bytes)
        return cache + steering_bytes(self.shape, self.arms)

    @property
    def fit(self) -> Fit:
        """How a discovery can run here: all weights in memory, streamed, or not.

        With all weights it needs headroom, for other programs and MLX's cache.
        """
        usable = self.machine.usable
        if not replace(self, arms=0).is_tight:
            return "whole"
        if replace(self, is_streamed=True).needed <= usable:
            return "streamed"
        return "whole" if self.weights <= usable else "no"

    @property
    def is_tight(self) -> bool:
        """Whether this is close to all usable memory."""
        return self.needed > TIGHT * self.machine.usable

    def __str__(self) -> str:
        usable = f"{gigabytes(self.machine.usable)} usable here"
        if self.is_streamed:
            whole = replace(self, is_streamed=False, arms=0)
            why = ""
            if self.weights > self.machine.usable:
                why = " (they do not fit into memory)"
            elif whole.is_tight:
                why = (
                    " (with them in memory a discovery needs "
                    f"{gigabytes(whole.needed)})"
                )
            return (
                f"{self.name}: {gigabytes(self.weights)} of weights, which stay on the "
                f"disk{why}; {gigabytes(self.needed)} to discover, two layers of "
                f"{gigabytes(self._layer)} included; {usable}"
            )
        return (
            f"{self.name}: {gigabytes(self.weights)} of weights{self._held}, "
            f"{self.shape.kv_per_token / 1e3:.0f} kB of KV cache per token and arm, "
            f"{gigabytes(self.discovery)} to discover; {usable}"
        )

    @property
    def duration(self) -> str | None:
        """How long a streamed discovery takes, and its bottleneck; None if unknown."""
        if self.rates is None:
            return None
        reading, computing = self.seconds
        bottleneck = "the disk" if reading > computing else "the arithmetic"
        total = reading + max(reading, computing)  # the fingerprint reads as well
        return (
            f"reading the weights takes {_time(reading)} ({gigabytes(self.weights)} at "
            f"{self.rates.disk / 1e9:.2f} GB/s), the arithmetic of a discovery "
            f"{_time(computing)}, both in parallel: {bottleneck} is the bottleneck; "
            f"with one more read for the fingerprint about {_time(total)} in all"
        )

    @property
    def seconds(self) -> tuple[float, float]:
        """The time to read all weights once, and that of a discovery's products.

        Raises:
            ValueError: the machine's rates are not known.
        """
        if self.rates is None:
            raise ValueError("the machine's rates are not known")
        products = self.shape.layers * self.shape.active_weights * Workload().tokens
        return self.weights / self.rates.disk, products / self.rates.products

    @property
    def warning(self) -> str | None:
        """What to do if memory is short, with the numbers; None if it is not."""
        if not self.is_tight:
            return None
        share = self.needed / self.machine.usable
        have = f"{share:.0%} of the {gigabytes(self.machine.usable)} usable here"
        what = "a discovery needs"
        if self.arms and not self.is_streamed:
            what = f"two arms of {self.tokens:,} tokens and a discovery need"
        remedies = [] if share > 1 else ["close other programs"]
        if self.arms and not self.is_streamed:
            remedies += ["give fewer --max-tokens", "discover first with --stream"]
        remedies.append("choose a smaller model (cna-mlx models)")
        return (
            f"memory is short: {what} {gigabytes(self.needed)}, {have}; "
            f"{', '.join(remedies[:-1])}{' or ' * (len(remedies) > 1)}{remedies[-1]}"
        )

    @property
    def _held(self) -> str:
        return f" on each of {self.ranks} ranks" if self.ranks > 1 else ""

    @property
    def _layer(self) -> int:
        if self.layer is not None:
            return self.layer
        return (self.weights - self.table) // max(1, self.shape.layers)


def streamed_bytes(
    shape: Shape, layer: int, table: int, work: Workload | None = None
) -> int:
    """MLX's peak memory in a streamed discovery.

    That is two layers, the current and the next one, and what a discovery needs; or an
    embedding that is read whole, and the hidden states of all prompts.

    Args:
        layer: bytes of its largest layer.
        table: bytes of its embedding if it can only be read whole, else 0.
        work: the prompts; the built-in ones if None.
    """
    own = (work or Workload()).own
    layers = min(2, shape.layers) * layer + discovery_bytes(shape, work)
    return max(layers, table + own * shape.hidden * shape.value_bytes)


def plan_of(entry: catalogue.Entry, bits: float, machine: Machine) -> Plan:
    """The plan of a model of the catalogue with 4, 8 or 16 bits a weight."""
    shape = entry.sizes
    layer = int(shape.layer_weights * catalogue.stored_bits(bits) / 8)
    return Plan(entry.name, entry.weights(bits), shape, machine, layer)


def check_fits(
    name: str, needed: int, available: Machine, *, is_streamed: bool = False
) -> None:
    """Refuse to load what does not fit into memory.

    Args:
        needed: bytes of the weights; of a streamed model, of a discovery in all.

    Raises:
        ModelError: it does not fit; the message has the numbers and a smaller choice.
    """
    if needed <= available.usable:
        return
    what = "for its weights alone"
    other = "; discover and probe can leave them on the disk (--stream)"
    if is_streamed:
        what, other = "for a discovery even with its weights on the disk", ""
    raise ModelError(
        f"{name} needs {gigabytes(needed)} {what}; this machine "
        f"has {gigabytes(available.total)}, of which {gigabytes(available.usable)} "
        f"can be used: {_smaller(available)} (cna-mlx models){other}"
    )


def _smaller(available: Machine) -> str:
    known = [
        (name, plan_of(entry, 4, available))
        for entry in sorted(catalogue.entries(), key=lambda one: one.weights_4bit)
        if (name := entry.ids["mlx_instruct_4bit"])
    ]
    fitting = [name for name, plan in known if not plan.is_tight]
    if fitting:
        return f"choose a smaller model or fewer bits, such as {fitting[-1]}"
    name, smallest = known[0]
    return f"not even {name} fits, with {gigabytes(smallest.needed)} in all"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
