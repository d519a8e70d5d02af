"""What a discovery holds beside the weights, told before it begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.models.memory.machine import kv_bytes_per_token


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

    @property
    def layer_weights(self) -> int:
        """How many weights the products of one layer have."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.hidden * (2 * queries + 2 * keys + 3 * self.d_ff)


@dataclass(frozen=True)
class Workload:
    """The prompts of a discovery, as far as memory and time depend on them.

    Unless told they are what is built in, the refusal contrast and the bank, as
    SmolLM2's tokenizer cuts them; others differ by a few tokens.

    Attributes:
        prompts: how many.
        own: their tokens behind what they share, with the padding, in all.
        header: tokens that all of them begin with.
        rows, length: of the batch with the most tokens.
        contrast: how many of the prompts are the contrast's, not the bank's.
        sets: lists that are ranked: the contrast, two halves, the bank.
    """

    prompts: int = 392
    own: int = 7723
    header: int = 24
    rows: int = 32
    length: int = 16
    contrast: int = 200
    sets: int = 15

    @classmethod
    def of(
        cls,
        lengths: Sequence[int],
        header: int,
        groups: Sequence[Sequence[int]],
        contrast: int | None = None,
        sets: int = 3,
    ) -> "Workload":
        """What these prompts come to.

        Args:
            lengths: tokens of each prompt.
            header: how many of them all prompts share.
            groups: which prompts go through a layer together.
            contrast: how many are the contrast's; all if None.
            sets: lists that are ranked.
        """
        sizes = [
            (len(rows), max(lengths[row] for row in rows) - header) for rows in groups
        ]
        rows, length = max(sizes, key=lambda size: size[0] * size[1])
        own = sum(rows * length for rows, length in sizes)
        count = len(lengths)
        return cls(count, own, header, rows, length, contrast or count, sets)

    @property
    def tokens(self) -> int:
        """How many tokens go through every layer."""
        return self.own + self.header


# How often a batch's tokens are held at once within a layer, by the bytes of a value:
# as rows of hidden, d_ff, all heads, the KV heads; for the KV heads and the attention's
# weights, also what the prompts share counts. Measured; see docs/design.md.
_HELD = {
    4: {"hidden": 5.1, "d_ff": 1.95, "heads": 5.05, "keys": 4.5, "all_keys": 1.9},
    2: {"hidden": 9.8, "d_ff": 1.87, "heads": 6.0, "keys": 3.9, "all_keys": 1.9},
}
_SCORES = 1.4
# The formula met what was measured within 5%: nearly so much is added.
_MARGIN = 1.038


def discovery_bytes(shape: Shape, work: Workload | None = None) -> int:
    """What MLX holds at the fullest moment of a discovery, beside the weights.

    That is *while the largest batch is in a layer* (see ``discovery.activations``):

    - the hidden states of all prompts: own tokens * hidden;
    - the last tokens' activations in float32: prompts * d_ff;
    - all intermediates of the batch: its norms, queries, keys, values, rotations, the
      attention's weights and output, gate and up.

    Args:
        shape: of the model.
        work: the prompts; those that are built in if None.

    Returns:
        Bytes.
    """
    work = work or Workload()
    held = _HELD[4 if shape.value_bytes == 4 else 2]
    batch, whole = work.rows * work.length, work.rows * (work.header + work.length)
    queries = shape.heads * shape.head_dim
    keys = shape.kv_heads * shape.head_dim
    values = (
        work.own * shape.hidden
        + batch * held["hidden"] * shape.hidden
        + batch * held["d_ff"] * shape.d_ff
        + batch * held["heads"] * queries
        + batch * held["keys"] * keys
        + whole * held["all_keys"] * keys
        + whole * work.length * _SCORES * shape.heads
    )
    rows = (work.prompts + work.rows) * shape.d_ff * 4
    return int(_MARGIN * (values * shape.value_bytes + rows))


def kept_bytes(shape: Shape, work: Workload | None = None) -> int:
    """What a discovery keeps of all layers outside MLX, about.

    Six figures of every neuron in float32 (delta, means, deviations, mean |a|), and of
    each layer the k best neurons of each list with the held-out gauge's products.

    Args:
        shape: of the model.
        work: the prompts; those that are built in if None.
    """
    work = work or Workload()
    best = min(shape.d_ff, max(1, shape.layers * shape.d_ff // 1000))
    kept = 24 * shape.d_ff + best * (20 * (work.sets + 5) + 4 * work.contrast)
    return shape.layers * kept
