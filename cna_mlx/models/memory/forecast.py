"""Forecast the memory of a discovery beyond the weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from cna_mlx.models.memory.shape import ExpertSizes, Recurrent
from cna_mlx.models.memory.shape import Shape as Shape

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
# The same for the MLP of a mixture: rows of hidden and of the shared expert for a
# token; of hidden, an expert's width and all experts for each that it is sent to; the
# latter also where experts have biases. Measured; see docs/design.md.
_PASSED = {"hidden": 0.51, "shared": 1.95}
_ROUTED = {
    False: {"hidden": 3.1, "width": 3.3, "count": 1.7},
    True: {"hidden": 4.9, "width": 3.5, "count": 5.0},
}
# The same for a recurrent layer: copies of a token's projections, and of its state on
# the CPU, which mlx-lm's own kernel does not run on. Measured.
_PROJECTED, _STATES = 3.0, 1.25
# The same for an MLP that is a layer of its own, and not gated. Measured.
_PLAIN = {"hidden": 2.2, "d_ff": 1.0}
# The same for Mamba2's scan, in float32: copies of a token's values, and of its
# products with the tokens of its chunk in each head. Measured; chunks have 256 tokens.
_SCANNED, _PRODUCTS = {"values": 15.2, "shared": 9.0, "repeated": 1.6}, 3.0
_CHUNK = 256
# Bounds of a batch in which each row changes another neuron: its rows, their tokens in
# the KV caches, their logits.
ABLATED_ROWS, ABLATED_TOKENS, ABLATED_LOGITS = 128, 8192, 1 << 24
# Further lists of a layer: folds, averages.
_RANKED = 13
# Copies of these logits at once: three and one for each start of a phrase. Measured
# with five starts.
_LOGITS = 9
# mlx-lm's KV caches grow by so many tokens.
_GROWS = 256
# Copies of the logits that the KL compares, and of a step's logits.
_COMPARED, _DECODED = 4, 6
# The formula was within 5% of all measurements: this margin is added.
_MARGIN = 1.038


def discovery_bytes(shape: Shape, work: Workload | None = None) -> int:
    """MLX's peak memory in a discovery, without the weights.

    The peak is *while the largest batch is in a layer* (see ``discovery.activations``):

    - the hidden states of all prompts: own tokens * hidden;
    - the last tokens' activations in float32: prompts * d_ff; a mixture's are kept
      outside MLX;
    - all intermediates of the batch: its norms, queries, keys, values, rotations, the
      attention's weights and output, gate and up.

    In a mixture of experts it is what attention or the chosen experts hold, whichever
    is more, or the scores of all its neurons in each list.

    Without ``work`` the prompts are the built-in ones.
    """
    work = work or Workload()
    held = _HELD[4 if shape.value_bytes == 4 else 2]
    step = min(work.length, BATCH_TOKENS)
    batch, whole = work.rows * step, work.rows * (work.header + work.length)
    queries = shape.heads * shape.head_dim
    keys = shape.kv_heads * shape.head_dim
    attention = (
        batch * held["hidden"] * shape.hidden
        + batch * held["heads"] * queries
        + batch * held["keys"] * keys
        + whole * held["all_keys"] * keys
        + whole * step * _SCORES * shape.heads
    )
    if shape.recurrent:
        attention = max(attention, _recurrent(shape, shape.recurrent, work.rows, step))
    if shape.blocks:
        own = shape.experts
        width = _routed(shape.hidden, own) if own else _PLAIN["d_ff"] * shape.d_ff
        values = max(attention, batch * (_PLAIN["hidden"] * shape.hidden + width))
    elif shape.experts is None:
        values = attention + batch * held["d_ff"] * shape.d_ff
    else:
        passed = held["hidden"] * _PASSED["hidden"] * shape.hidden
        values = max(attention, batch * (passed + _routed(shape.hidden, shape.experts)))
    layer = values * shape.value_bytes + work.rows * shape.d_ff * 4
    ranking = work.contrast * shape.d_ff * 4
    kept = work.own * shape.hidden * shape.value_bytes
    if shape.experts is None:
        kept += work.prompts * shape.d_ff * 4
    else:  # only the routed experts' are kept, outside MLX; here each list's scores
        ranking = 2 * 4 * (work.sets + _RANKED) * shape.d_ff
    return int(_MARGIN * (kept + max(layer, ranking)))


def _recurrent(shape: Shape, own: Recurrent, rows: int, step: int) -> float:
    """The values that a batch has in a recurrent layer.

    Metal's kernel holds a row's state before and after; without it mlx-lm computes a
    state for each token, and all are held.
    """
    import mlx.core as mx

    if scan := own.scan:
        held = sum(copies * getattr(scan, name) for name, copies in _SCANNED.items())
        held += _PRODUCTS * scan.heads * min(step, _CHUNK)
        return rows * (step * held + _STATES * own.state) * 4 / shape.value_bytes
    states = 2 if mx.metal.is_available() else _STATES * step
    passed = shape.hidden * _HELD[4]["hidden"] + _PROJECTED * own.inner
    return rows * (step * passed + states * own.state * 4 / shape.value_bytes)


def _routed(hidden: int, experts: ExpertSizes) -> float:
    """The values that a token has in its experts."""
    held = _ROUTED[experts.has_biases]
    return _PASSED["shared"] * experts.shared + experts.chosen * (
        held["hidden"] * hidden
        + held["width"] * experts.width
        + held["count"] * experts.count
    )


def influence_bytes(shape: Shape, work: Workload | None = None) -> int:
    """What a discovery by influence holds besides another one's memory, at most.

    The gradient of each prompt of the contrast by each neuron, in float32, twice while
    it moves to MLX; of a mixture, by the neurons of the experts that it goes to, and a
    batch's by all, with its shifts. Further the keys and values of a batch of 512
    tokens or one prompt. Only the prompts' last tokens have a backward pass. All layers
    are counted, though the last third is left out unless told. Without ``work`` the
    prompts are the built-in ones.
    """
    work = work or Workload()
    gradients = 2 * 4 * work.contrast * shape.all_neurons
    if shape.experts:
        rows = max(1, BATCH_TOKENS // (work.header + work.length))
        own = work.contrast * shape.layers * shape.active
        gradients = 4 * (own + 3 * rows * shape.all_neurons)
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
    """What a discovery keeps outside MLX, about.

    Six values of every neuron in float32 (delta, means, deviations, mean |a|), and of
    each layer the k best neurons of each list with the held-out gauge's products; of a
    mixture also one layer's activations in the experts that the prompts went to.
    Without ``work`` the prompts are the built-in ones.
    """
    work = work or Workload()
    best = min(shape.d_ff, max(1, shape.all_neurons // 1000))
    kept = best * (20 * (work.sets + 5) + 4 * work.contrast)
    routed = 4 * work.prompts * shape.active if shape.experts else 0
    return 24 * shape.all_neurons + shape.layers * kept + routed


def steering_bytes(shape: Shape, arms: int) -> int:
    """What steered arms hold besides their KV caches, at most.

    A scale of every neuron for each arm in float32, and the part of it for the rows
    that prefill takes.
    """
    return 2 * 4 * arms * shape.all_neurons


def decoding_bytes(
    shape: Shape, rows: int, prompt: int, answer: int, vocabulary: int
) -> int:
    """MLX's peak memory while arms answer one prompt, without the weights.

    Their KV caches, the scales of the neurons, a step's logits, and what a layer holds
    of the prompt.
    """
    cache = _grown(prompt + answer) * shape.kv_per_token + shape.state_bytes
    held = _HELD[4 if shape.value_bytes == 4 else 2]
    passed = held["hidden"] * shape.hidden + held["d_ff"] * shape.active
    passed += held["heads"] * shape.heads * shape.head_dim
    passed += _SCORES * shape.heads * prompt
    layer = int(min(prompt, BATCH_TOKENS) * passed) * shape.value_bytes
    step = 4 * _DECODED * vocabulary
    return rows * (cache + layer + step) + steering_bytes(shape, rows)


def evaluation_bytes(
    shape: Shape,
    rows: int,
    prompt: int,
    answer: int,
    logits: int,
    *,
    vocabulary: int,
    waiting: int = 0,
    extended: int = 0,
) -> int:
    """MLX's peak memory while a batch of an evaluation is answered, at most.

    Without the weights, it is the largest of

    - decoding: the rows' KV caches, twice while they are read and written, and a copy
      of the prompts' for the KL;
    - the KL: caches of the prompts that grow, the logits that are compared, and the
      answers' caches if some answers continue;
    - continuing a batch of the answers;

    besides the caches of rows that wait, the scales of the neurons and a step's logits.

    Args:
        rows: of the batch.
        prompt, answer: tokens of the longest.
        logits: that the KL compares at a time; 0 without it.
        vocabulary: logits of a token.
        waiting: rows of other batches that go on later.
        extended: tokens of answers that continue; 0 if none does.
    """

    def caches(tokens: int) -> int:
        return rows * (tokens * shape.kv_per_token + shape.state_bytes)

    decoding = 2 * caches(prompt + _grown(answer)) + (caches(prompt) if logits else 0)
    compared = caches(prompt + _GROWS) + 4 * _COMPARED * logits if logits else 0
    if extended:
        compared += caches(prompt + answer)
        more = _grown(extended - answer)
        decoding = max(decoding, 2 * caches(prompt + answer + more))
    kept = waiting * (prompt + answer) * shape.kv_per_token
    step = 4 * _DECODED * rows * vocabulary
    return max(decoding, compared) + kept + step + steering_bytes(shape, rows)


def _grown(tokens: int) -> int:
    """The room that a cache makes for so many tokens."""
    return -(-tokens // _GROWS) * _GROWS
