"""What a model will need in memory, told from its files before it is loaded."""

from dataclasses import dataclass
from typing import Any

from cna_mlx.errors import ModelError
from cna_mlx.models import catalogue
from cna_mlx.models.memory import Machine, gigabytes, kv_bytes_per_token

# Above this share of what can be used, other programs and the cache of freed buffers
# bring paging about.
TIGHT = 0.9
_ARMS, _TOKENS = 2, 2048
# A discovery with what is built in: the refusal contrast and the bank. Their prompts
# have 20 tokens each (19.7 with the padding) behind a template's header of some 24.
PROMPTS, CONTRAST_PROMPTS = 392, 200
BATCH_TOKENS = 512
OWN_TOKENS, HEADER_TOKENS = 20, 24
SETS = 15  # ranked for their best neurons: contrast, two halves, twelve of the bank


@dataclass(frozen=True)
class Shape:
    """The sizes that decide what a model needs besides its weights.

    Attributes:
        layers, hidden, d_ff, heads, kv_heads, head_dim: as in config.json.
        context: its longest prompt and answer in tokens; 0 if it does not say.
        value_bytes: of a number while it computes: 2 in bf16 and fp16, 4 in float32.
    """

    layers: int
    hidden: int
    d_ff: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int = 0
    value_bytes: int = 2

    @classmethod
    def of_config(
        cls, config: dict[str, Any], value_bytes: int | None = None
    ) -> "Shape":
        """The shape that config.json tells; 0 for what it does not."""

        def number(key: str, otherwise: int = 0) -> int:
            value = config.get(key)
            return value if type(value) is int and value > 0 else otherwise

        heads = number("num_attention_heads", 1)
        dtype = config.get("dtype") or config.get("torch_dtype")
        return cls(
            number("num_hidden_layers"),
            number("hidden_size"),
            number("intermediate_size"),
            heads,
            number("num_key_value_heads", heads),
            number("head_dim", number("hidden_size") // heads),
            number("max_position_embeddings"),
            value_bytes or (4 if dtype == "float32" else 2),
        )

    @property
    def kv_per_token(self) -> int:
        """Bytes of the KV cache for a token of one arm."""
        entry = {
            "layers": self.layers,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
        }
        return kv_bytes_per_token(entry, self.value_bytes)


@dataclass(frozen=True)
class Plan:
    """The memory of a model, in bytes, against what the machine has.

    Attributes:
        name: the model.
        weights: of all of its weights.
        shape: the rest hangs on it.
        machine: where it is to run.
    """

    name: str
    weights: int
    shape: Shape
    machine: Machine

    @property
    def discovery(self) -> int:
        """What a discovery with the built-in prompts needs, about."""
        return discovery_bytes(self.shape)

    @property
    def tokens(self) -> int:
        """How long a conversation is reckoned with: 2,048 tokens, or the context."""
        return min(_TOKENS, self.shape.context or _TOKENS)

    @property
    def needed(self) -> int:
        """Weights, the KV cache of two arms, and a discovery."""
        cache = _ARMS * self.tokens * self.shape.kv_per_token
        return self.weights + cache + self.discovery

    @property
    def is_tight(self) -> bool:
        """Whether this is more than can be used in comfort."""
        return self.needed > TIGHT * self.machine.usable

    def __str__(self) -> str:
        return (
            f"{self.name}: {gigabytes(self.weights)} of weights, "
            f"{self.shape.kv_per_token / 1e3:.0f} kB of KV cache per token and arm, "
            f"{gigabytes(self.discovery)} to discover; "
            f"{gigabytes(self.machine.usable)} usable here"
        )

    @property
    def warning(self) -> str | None:
        """What to do where memory is short, with the numbers; None if it is not."""
        if not self.is_tight:
            return None
        share = self.needed / self.machine.usable
        return (
            f"memory is short: with two arms of {self.tokens:,} tokens and a discovery "
            f"this takes {gigabytes(self.needed)}, {share:.0%} of the "
            f"{gigabytes(self.machine.usable)} usable here; close other programs, give "
            "fewer --max-tokens, or take a smaller model (cna-mlx models)"
        )


def discovery_bytes(shape: Shape) -> int:
    """What a discovery holds at its fullest moment beside the weights, about.

    With n = 392 prompts of 20 tokens of their own (see :mod:`cna_mlx.activations`):

    - the hidden states of all prompts between two layers: n * 20 * hidden;
    - *while the last batch is in a layer* (512 tokens, all intermediates at once):
      gate, up and their product, 3 * d_ff a token; norms, queries, keys, values,
      their rotations, the attention's output and sums, 10 * hidden a token; the
      attention's weights, heads * 44 a token; and the last tokens' activations of the
      layer before and of this one, 2 * n * d_ff in float32;
    - *when the batches are put together*, in place of that: 4.75 * n * d_ff in
      float32: of the layer before, as pieces, joined, in the order of the prompts, and
      three masks of a byte that look for NaN;
    - over all layers, outside MLX: the five moments of every neuron, and the k best
      neurons with the contrast's 200 products of the held-out gauge and the best of 15
      lists.

    Args:
        shape: of the model.

    Returns:
        Bytes.
    """
    value, wide = shape.value_bytes, 4
    hidden = PROMPTS * OWN_TOKENS * shape.hidden * value
    rows = PROMPTS * shape.d_ff * wide
    scores = shape.heads * (HEADER_TOKENS + OWN_TOKENS)
    batch = BATCH_TOKENS * value * (3 * shape.d_ff + 10 * shape.hidden + scores)
    best = max(1, shape.layers * shape.d_ff // 1000)
    kept = 5 * wide * shape.d_ff + best * (wide * CONTRAST_PROMPTS + 20 * SETS)
    fullest = max(2 * rows + batch, 4.75 * rows)
    return int(hidden + fullest + shape.layers * kept)


def check_fits(name: str, needed: int, available: Machine) -> None:
    """Refuse a load that cannot fit, before it takes the machine down.

    Args:
        name: what is to be loaded.
        needed: bytes of weights.
        available: what this machine has.

    Raises:
        ModelError: it does not fit; the message holds the numbers and a smaller choice.
    """
    if needed > available.usable:
        raise ModelError(
            f"{name} needs {gigabytes(needed)} for its weights alone; this machine "
            f"has {gigabytes(available.total)}, of which {gigabytes(available.usable)} "
            f"can be used: {_smaller(available)} (cna-mlx models)"
        )


def _smaller(available: Machine) -> str:
    known = [
        (name, Plan(name, entry.weights_4bit, _shape_of(entry), available))
        for entry in sorted(catalogue.entries(), key=lambda one: one.weights_4bit)
        if (name := entry.ids["mlx_instruct_4bit"])
    ]
    fitting = [name for name, plan in known if not plan.is_tight]
    if fitting:
        return f"choose a smaller model or fewer bits, such as {fitting[-1]}"
    name, smallest = known[0]
    return f"not even {name} fits, with {gigabytes(smallest.needed)} in all"


def _shape_of(entry: catalogue.Entry) -> Shape:
    names = ("layers", "hidden", "d_ff", "heads", "kv_heads", "head_dim")
    return Shape(**{name: int(entry.shape[name]) for name in names})
