"""Check a model's neurons, numerics and speed."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.diagnostics import invariants, rows
from cna_mlx.diagnostics.results import (
    Check,
    Fact,
    Item,
    checked,
    failed,
    ok,
    passed,
    warning,
)
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.selection import DEFAULT_FRACTION
from cna_mlx.models.families import (
    block_of,
    experts_of,
    family_of,
    installed,
    widths,
)
from cna_mlx.models.fingerprint import fingerprint, quantization
from cna_mlx.models.loading import source_of
from cna_mlx.models.memory.loaded import parameter_bytes
from cna_mlx.models.mlx_lm_internals import ArraysCache, make_prompt_cache
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
# Most neurons are nearly silent: scaling this share changes logits even in bf16.
_RANDOM_SHARE = 0.05
_FP16_LARGEST = 65504.0
_FP16_HEADROOM = 4.0
# Allowed differences of logits, relative to the largest; float32 depends on the device.
_ROUNDING = {"bfloat16": 0.1, "float16": 0.03}
_TOKENS, _SECONDS = 32, 6.0


# --------------------------------------------------------------------- hooked


def hooked_items(model: Any, store: Store) -> Iterator[Item]:
    """Report what this tool can read and steer in a model, and its cached circuits."""
    sizes = widths(model)
    own = fingerprint(model)
    source = source_of(model)
    yield Fact("family", family_of(model).name)
    yield Fact("revision", (source and source.revision) or "none")
    yield Fact("layers", len(sizes))
    yield Fact("d_ff", "-".join(str(size) for size in sorted(set(sizes) - {0})))
    yield Fact("neurons", sum(sizes))
    count = max(1, round(DEFAULT_FRACTION * sum(sizes)))
    yield Fact("0.1% circuit", count, remark="neurons")
    yield Fact("quantization", quantization(model))
    yield Fact("dtype", _dtype(model))
    yield Fact("weights", parameter_bytes(model), "bytes")
    if any(experts_of(model)):
        yield Fact("weights per token", bytes_per_token(model), "bytes")
    yield Fact("fingerprint", own[:12])
    contrasts = (circuit.provenance.contrast for circuit in store.circuits(own))
    names = {str(contrast and contrast.name) for contrast in contrasts}
    yield Fact("circuits kept", ", ".join(sorted(names)) or "none")


def bytes_per_token(model: Any) -> int:
    """Return the bytes of weights that a token reads.

    All except the embeddings and the experts that it is not sent to.
    """
    family = family_of(model)
    table = family.embedding(model)
    read = parameter_bytes(model) - _idle_bytes(model)
    if table is family.unembedding(model):  # which reads them
        return read
    return read - parameter_bytes(table)


def _idle_bytes(model: Any) -> int:
    """The bytes of the experts that a token is not sent to."""
    family, idle = family_of(model), 0
    for layer, own in zip(family.layers(model), experts_of(model), strict=True):
        if own is not None:
            count, _, chosen = own
            block: Any = block_of(family, layer)
            switch = block[block.switch]
            idle += parameter_bytes(switch) * (count - chosen) // count
    return idle


def _dtype(model: Any) -> str:
    hidden = family_of(model).embedding(model)(mx.array([[0]]))
    return str(hidden.dtype).removeprefix("mlx.core.")


# ------------------------------------------------------------------- numerics


def numeric_items(model: Any, tokenizer: Any, float32: float) -> Iterator[Item]:
    """Check that this device computes and steers this model correctly.

    `float32` is the allowed rounding of float32 results on this device.
    """
    ids = [render_prompt(tokenizer, prompt) for prompt in _PROMPTS]
    yield checked("activations", check_activations, model, ids)
    random = invariants.random_circuit(model, _RANDOM_SHARE)
    yield checked("steering", invariants.identity, model, ids[0], random)
    yield checked("rows of a batch", invariants.rows, model, ids[0], random)
    yield checked("products of a few rows", rows.check_products, model)
    tolerance = _ROUNDING.get(_dtype(model), float32)
    yield checked("prefill in parts", check_prefill, model, ids[-1], tolerance)
    yield Fact("KV cache per token", attempt(partial(kv_bytes, model, ids[0])), "bytes")


def check_activations(model: Any, ids: Sequence[list[int]]) -> Check:
    """Check that every neuron of every layer is finite at every position."""
    peaks = _peaks(model, ids)
    broken = [layer for layer, peak in enumerate(peaks) if not np.isfinite(peak)]
    if broken:
        return failed(
            f"NaN or infinity from layer {broken[0]} on",
            "use the model in bf16 or float32, or fetch its weights again",
        )
    peak, layer = max((value, layer) for layer, value in enumerate(peaks))
    detail = (
        f"finite in all {len(peaks)} layers; the largest is {peak:.3g}, layer {layer}"
    )
    if _dtype(model) == "float16" and peak * _FP16_HEADROOM > _FP16_LARGEST:
        return warning(
            f"{detail}: close to the largest fp16 value ({_FP16_LARGEST:.0f})",
            "use the model in bf16; multipliers above 1 can overflow",
        )
    return ok(detail)


def _peaks(model: Any, ids: Sequence[list[int]]) -> list[float]:
    """Return each layer's largest |a|; infinity stands for any non-finite value."""
    peaks = [mx.array(0.0)] * len(widths(model))

    def keep(layer: int, activations: mx.array) -> None:
        values = mx.abs(activations.astype(mx.float32))
        peak = mx.where(mx.isfinite(values).all(), values.max(), mx.array(mx.inf))
        peaks[layer] = mx.maximum(peaks[layer], peak)

    with ExitStack() as stack:
        blocks = stack.enter_context(installed(model, list(range(len(peaks)))))
        for layer, block in blocks.items():
            stack.enter_context(block.tapped(partial(keep, layer)))
        for prompt in ids:
            mx.eval(model(mx.array([prompt])), peaks)
    return [float(np.array(peak)) for peak in peaks]


def check_prefill(model: Any, ids: list[int], tolerance: float) -> Check:
    """Check that prefilling a prompt in two parts gives the same logits as in one.

    The prompt needs two tokens; `tolerance` is relative to the largest logit.
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
    return passed(error <= tolerance, detail)


def kv_bytes(model: Any, ids: list[int]) -> int:
    """Return the bytes of the KV cache per token and arm, without recurrent states."""
    cache = make_prompt_cache(model)
    mx.eval(model(mx.array([ids]), cache=cache))
    # [1, heads, room, head_dim], with room for more tokens
    layers = [layer for layer in cache if not isinstance(layer, ArraysCache)]
    arrays = [array for layer in layers for array in (layer.keys, layer.values)]
    return sum(array.nbytes // array.shape[2] for array in arrays)


# ---------------------------------------------------------------------- speed


def speed_items(model: Any, tokenizer: Any, bandwidth: float | None) -> Iterator[Item]:
    """Report how fast arms decode and the disk reads.

    The speed of one arm is also a share of what `bandwidth` (GB/s) allows.
    """
    rate = attempt(partial(_decoding_rate, model, tokenizer))
    remark = ""
    if rate and bandwidth:
        bound = bandwidth * 1e9 / bytes_per_token(model)
        remark = f"{rate / bound:.0%} of the {bound:.0f} that the bandwidth allows"
    yield Fact("decoding", rate, "tokens/s", remark)
    yield from rows.time_items(model, render_prompt(tokenizer, _PROMPTS[1]))
    yield from rows.disk_items(model)


def _decoding_rate(model: Any, tokenizer: Any) -> float | None:
    """Return tokens per second of a short answer; None if it ends at once."""
    ids = render_prompt(tokenizer, _PROMPTS[1])
    end = time.perf_counter() + _SECONDS
    events = generate_arms(
        model,
        tokenizer,
        [ids],
        [BASELINE],
        max_tokens=_TOKENS,
        stop=lambda: time.perf_counter() > end,
    )
    times = [time.perf_counter() for event in events if isinstance(event, Token)]
    times = times[1:] if len(times) > 3 else times  # the first pass compiles
    if len(times) < 2:
        return None
    return (len(times) - 1) / (times[-1] - times[0])
