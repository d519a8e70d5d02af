"""Forecast the memory of a discovery beyond the weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that decide what it needs besides its weights.

    Attributes:
        layers, hidden, d_ff, heads, kv_heads, head_dim: as in config.json.
        context: its longest prompt and answer in tokens; 0 if unknown.
        value_bytes: of a value in computation: 2 in bf16 and fp16, 4 in float32.
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
        """The shape from config.json; 0 for what it lacks."""

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
        return 2 * self.layers * self.kv_heads * self.head_dim * self.value_bytes

    @property
    def layer_weights(self) -> int:
        """The number of weights in one layer's projections."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.hidden * (2 * queries + 2 * keys + 3 * self.d_ff)


# Tokens that go through a layer at a time: enough to keep the arithmetic busy, few
# enough to bound the memory of a walk and the time of one command to a GPU.
BATCH_TOKENS = 512


@dataclass(frozen=True)
class Workload:
    """The sizes of a discovery's prompts that decide its memory and time.

    The defaults are the built-in refusal contrast and bank with SmolLM2's tokenizer;
    others differ by a few tokens.

    Attributes:
        prompts: how many.
        own: tokens after the shared prefix of all prompts, with the padding.
        header: tokens of the shared prefix.
        rows, length: of the batch with the most tokens.
        contrast: the number of prompts of the contrast; the rest is the bank's.
        sets: ranked lists: the contrast, two halves, the bank.
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
        """The workload of these prompts.

        Args:
            lengths: tokens of each prompt.
            header: tokens of the shared prefix.
            contrast: the number of prompts of the contrast; all if None.
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
        """Tokens that go through every layer."""
        return self.own + self.header


# How many copies of a batch's tokens a layer holds at once, by the bytes of a value:
# as rows of hidden, d_ff, all heads, the KV heads; for the KV heads and the attention's
# weights with the shared prefix. Measured; see docs/design.md.
_HELD = {
    4: {"hidden": 5.1, "d_ff": 1.95, "heads": 5.05, "keys": 4.5, "all_keys": 1.9},
    2: {"hidden": 9.8, "d_ff": 1.87, "heads": 6.0, "keys": 3.9, "all_keys": 1.9},
}
_SCORES = 1.4
# Bounds of a batch in which each row changes another neuron: its rows, their tokens in
# the KV caches, their logits.
ABLATED_ROWS, ABLATED_TOKENS, ABLATED_LOGITS = 128, 8192, 1 << 24
# Copies of these logits at once: three and one for each start of a phrase. Measured
# with five starts.
_LOGITS = 9
# The formula was within 5% of all measurements: this margin is added.
_MARGIN = 1.038


def discovery_bytes(shape: Shape, work: Workload | None = None) -> int:
    """MLX's peak memory in a discovery, without the weights.

    The peak is *while the largest batch is in a layer* (see ``discovery.activations``):

    - the hidden states of all prompts: own tokens * hidden;
    - the last tokens' activations in float32: prompts * d_ff;
    - all intermediates of the batch: its norms, queries, keys, values, rotations, the
      attention's weights and output, gate and up.

    Without ``work`` the prompts are the built-in ones.
    """
    work = work or Workload()
    held = _HELD[4 if shape.value_bytes == 4 else 2]
    step = min(work.length, BATCH_TOKENS)
    batch, whole = work.rows * step, work.rows * (work.header + work.length)
    queries = shape.heads * shape.head_dim
    keys = shape.kv_heads * shape.head_dim
    values = (
        work.own * shape.hidden
        + batch * held["hidden"] * shape.hidden
        + batch * held["d_ff"] * shape.d_ff
        + batch * held["heads"] * queries
        + batch * held["keys"] * keys
        + whole * held["all_keys"] * keys
        + whole * step * _SCORES * shape.heads
    )
    rows = (work.prompts + work.rows) * shape.d_ff * 4
    return int(_MARGIN * (values * shape.value_bytes + rows))


def influence_bytes(shape: Shape, work: Workload | None = None) -> int:
    """What a discovery by influence holds besides another one's memory, at most.

    The gradient of each prompt of the contrast by each neuron, in float32, twice while
    it moves to MLX; and the keys and values of a batch of 512 tokens or one prompt.
    Only the prompts' last tokens have a backward pass. All layers are counted, though
    the last third is left out unless told. Without ``work`` the prompts are the
    built-in ones.
    """
    work = work or Workload()
    gradients = 2 * 4 * work.contrast * shape.layers * shape.d_ff
    return gradients + max(512, work.header + work.length) * shape.kv_per_token


def causal_bytes(shape: Shape, work: Workload | None = None) -> int:
    """What a discovery by ``causal`` holds besides another one's memory, at most.

    First the gradients that choose its candidates, then a batch whose rows each change
    another neuron: its keys and values in all layers, twice more in the one that is
    extended, and copies of its logits.
    """
    work = work or Workload()
    tokens = max(ABLATED_TOKENS, 2 * (work.header + work.length))
    keys = tokens * shape.kv_per_token * (shape.layers + 2) // max(1, shape.layers)
    batch = keys + _LOGITS * 4 * ABLATED_LOGITS
    return max(influence_bytes(shape, work), batch)


def kept_bytes(shape: Shape, work: Workload | None = None) -> int:
    """What a discovery keeps of all layers outside MLX, about.

    Six values of every neuron in float32 (delta, means, deviations, mean |a|), and of
    each layer the k best neurons of each list with the held-out gauge's products.
    Without ``work`` the prompts are the built-in ones.
    """
    work = work or Workload()
    best = min(shape.d_ff, max(1, shape.layers * shape.d_ff // 1000))
    kept = 24 * shape.d_ff + best * (20 * (work.sets + 5) + 4 * work.contrast)
    return shape.layers * kept
