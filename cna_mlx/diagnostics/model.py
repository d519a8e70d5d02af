"""Checks on a model that a person wants to use: neurons, numerics, speed."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from cna_mlx.diagnostics import invariants
from cna_mlx.diagnostics.results import Check, Fact, Item, guarded
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.selection import DEFAULT_FRACTION
from cna_mlx.models.families import family_of, installed, widths
from cna_mlx.models.fingerprint import fingerprint, quantization
from cna_mlx.models.loading import source_of
from cna_mlx.models.mlx_lm_internals import make_prompt_cache
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.events import Token
from cna_mlx.steering.generation import generate_arms
from cna_mlx.util.environment import attempt

_PROMPTS = (
    "What is a neuron?",
    "Write one sentence about the sea.",
    "How do I bake bread when I have no oven at home?",
)
# Enough to be seen in bf16: most neurons are nearly silent.
_RANDOM_SHARE = 0.05
_FP16_LARGEST = 65504.0
_FP16_HEADROOM = 4.0
# Of logits, relative to the largest, between one way to add them up and another. What
# float32 may do depends on the device and is passed in.
_ROUNDING = {"bfloat16": 0.1, "float16": 0.03}
_TOKENS, _SECONDS = 32, 6.0


# --------------------------------------------------------------------- hooked


def hooked_items(model: Any, store: Store) -> Iterator[Item]:
    """What of the model can be read and steered, and what is known of it.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        store: where circuits are kept.
    """
    sizes = widths(model)
    own = fingerprint(model)
    source = source_of(model)
    yield Fact("family", family_of(model).name)
    yield Fact("revision", (source and source.revision) or "none")
    yield Fact("layers", len(sizes))
    yield Fact("d_ff", "-".join(str(size) for size in sorted(set(sizes))))
    yield Fact("neurons", sum(sizes))
    count = max(1, round(DEFAULT_FRACTION * sum(sizes)))
    yield Fact("0.1% circuit", count, remark="neurons")
    yield Fact("quantization", quantization(model))
    yield Fact("dtype", _dtype(model))
    yield Fact("weights", weight_bytes(model), "bytes")
    yield Fact("fingerprint", own[:12])
    kept = attempt(store.circuits) or []
    names = {
        str(circuit.provenance.contrast and circuit.provenance.contrast.name)
        for circuit in kept
        if circuit.model.fingerprint == own
    }
    yield Fact("circuits kept", ", ".join(sorted(names)) or "none")


def weight_bytes(model: Any) -> int:
    """The bytes of all of a model's parameters."""
    arrays: list[Any] = tree_flatten(model.parameters())  # type: ignore[assignment]
    return sum(array.nbytes for _, array in arrays)


def bytes_per_token(model: Any) -> int:
    """The bytes of weights that decoding a token reads: not the rows of embeddings."""
    if model.args.tie_word_embeddings:  # then they are the unembedding as well
        return weight_bytes(model)
    return weight_bytes(model) - weight_bytes(model.model.embed_tokens)


def _dtype(model: Any) -> str:
    hidden = family_of(model).embed(model, mx.array([[0]]))
    return str(hidden.dtype).removeprefix("mlx.core.")


# ------------------------------------------------------------------- numerics


def numeric_items(model: Any, tokenizer: Any, float32: float) -> Iterator[Item]:
    """Whether this device computes this model, and its steering, as it should.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        float32: what rounding may do to float32 results here, relative to the largest.
    """
    ids = [render_prompt(tokenizer, prompt) for prompt in _PROMPTS]
    yield guarded("activations", partial(check_activations, model, ids))
    random = invariants.random_circuit(model, _RANDOM_SHARE)
    yield guarded(
        "steering",
        partial(invariants.identity, model, ids[0], random, "steering"),
    )
    tolerance = _ROUNDING.get(_dtype(model), float32)
    yield guarded("prefill in parts", partial(check_prefill, model, ids[-1], tolerance))
    yield Fact("KV cache per token", attempt(partial(kv_bytes, model, ids[0])), "bytes")


def check_activations(model: Any, ids: Sequence[list[int]]) -> Check:
    """Whether every neuron of every layer is finite at every position.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        ids: a few prompts.
    """
    sizes = widths(model)
    found: dict[int, list[mx.array]] = {layer: [] for layer in range(len(sizes))}
    with installed(model, list(found)) as blocks:
        for prompt in ids:
            _tapped_pass(model, blocks, prompt, found)
    largest = [max(np.array(part).item() for part in parts) for parts in found.values()]
    broken = [layer for layer, value in enumerate(largest) if not np.isfinite(value)]
    if broken:
        return Check(
            "activations",
            "failed",
            f"NaN or infinite from layer {broken[0]} on",
            "use the model in bf16 or float32, or fetch its weights again",
        )
    peak, layer = max((value, layer) for layer, value in enumerate(largest))
    detail = (
        f"finite in all {len(sizes)} layers; the largest is {peak:.3g}, layer {layer}"
    )
    if _dtype(model) == "float16" and peak * _FP16_HEADROOM > _FP16_LARGEST:
        return Check(
            "activations",
            "warning",
            f"{detail}: close to the end of fp16's range ({_FP16_LARGEST:.0f})",
            "use the model in bf16; a multiplier above 1 overflows soon",
        )
    return Check("activations", "ok", detail)


def _tapped_pass(
    model: Any,
    blocks: dict[int, Any],
    prompt: list[int],
    found: dict[int, list[mx.array]],
) -> None:
    """One pass; each layer's largest |a|, where NaN is the largest of all."""

    def keep(layer: int, activations: mx.array) -> None:
        values = mx.abs(activations.astype(mx.float32))
        finite = mx.isfinite(values).all()
        found[layer].append(mx.where(finite, values.max(), mx.array(mx.inf)))

    with ExitStack() as stack:
        for layer, block in blocks.items():
            stack.enter_context(block.tapped(partial(keep, layer)))
        mx.eval(model(mx.array([prompt])))
    mx.eval([parts[-1] for parts in found.values()])


def check_prefill(model: Any, ids: list[int], tolerance: float) -> Check:
    """Whether a prompt read in two parts gives the logits that it gives in one.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        ids: a prompt of two tokens or more.
        tolerance: what rounding may do, relative to the largest logit.
    """
    half = len(ids) // 2
    whole = invariants.logits(model, [ids])[:, half:].astype(mx.float32)
    cache = make_prompt_cache(model)
    mx.eval(model(mx.array([ids[:half]]), cache=cache))
    rest = model(mx.array([ids[half:]]), cache=cache).astype(mx.float32)
    error = np.array(mx.abs(rest - whole).max() / mx.abs(whole).max()).item()
    detail = (
        f"logits differ by {error:.1e} of the largest, {tolerance:.0e} allowed in "
        f"{_dtype(model)}"
    )
    return Check.of("prefill in parts", error <= tolerance, detail)


def kv_bytes(model: Any, ids: list[int]) -> int:
    """The bytes that the KV cache of one token of one arm takes."""
    cache = make_prompt_cache(model)
    mx.eval(model(mx.array([ids]), cache=cache))
    # [1, heads, room, head_dim]: there is room for more tokens than were fed
    arrays = [array for layer in cache for array in (layer.keys, layer.values)]
    return sum(array.nbytes // array.shape[2] for array in arrays)


# ---------------------------------------------------------------------- speed


def speed_items(model: Any, tokenizer: Any, bandwidth: float | None) -> Iterator[Item]:
    """How fast one arm decodes, and how near to what the bandwidth allows.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        bandwidth: of the device, in GB/s; None if it is not known.
    """
    rate = attempt(partial(decoding_rate, model, tokenizer))
    remark = ""
    if rate and bandwidth:
        bound = bandwidth * 1e9 / bytes_per_token(model)
        remark = (
            f"{rate / bound:.0%} of the {bound:.0f} that the bandwidth allows for its "
            "weights"
        )
    yield Fact("decoding", rate, "tokens/s", remark)


def decoding_rate(
    model: Any, tokenizer: Any, tokens: int = _TOKENS, seconds: float = _SECONDS
) -> float | None:
    """Tokens per second of a short answer; None if it is over at once.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        tokens: how many at most.
        seconds: how long at most, about.
    """
    ids = render_prompt(tokenizer, _PROMPTS[1])
    end = time.perf_counter() + seconds
    times = [
        time.perf_counter()
        for event in generate_arms(
            model,
            tokenizer,
            [ids],
            [BASELINE],
            max_tokens=tokens,
            stop=lambda: time.perf_counter() > end,
        )
        if isinstance(event, Token)
    ]
    # the first pass compiles
    timed = times[1:] if len(times) > 3 else times
    if len(timed) < 2:
        return None
    return (len(timed) - 1) / (timed[-1] - timed[0])
