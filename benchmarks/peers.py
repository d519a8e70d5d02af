"""The work that tools like this one share, and what others take for it.

A small random Llama (hidden 512, 8 layers, d_ff 2,048, 8,192 ids) in float32 reads 32
prompts of 40 to 56 random ids, which share nothing; what is wanted is one vector of
each layer at the last token. Then it decodes, unsteered and steered. Plain is mlx-lm
alone: `model(tokens)` for each prompt, and its own loop. Time is CPU time of the
process, so that another program beside it counts little; medians of interleaved pairs.
A peer runs where it is installed: mlx-lens captures the residual stream, not neurons,
and adds a vector to it.
The last line is one JSON object.

    pip install mlx-lens
    python benchmarks/peers.py
"""

import argparse
import json
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models import llama
from mlx_lm.models.cache import KVCache, make_prompt_cache
from random_models import SHAPES, save

from cna_mlx import steered
from cna_mlx.diagnostics.bench.timing import Budget, Comparison, in_turn
from cna_mlx.diagnostics.invariants import random_circuit
from cna_mlx.discovery.activations import last_activations

SHAPE = {
    **SHAPES["smollm2-135m"],
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 8192,
    "torch_dtype": "float32",
}
PROMPTS, TOKENS = 32, 64


def timed(work):
    """A piece of work as its CPU seconds."""

    def run():
        mx.synchronize()
        started = time.process_time()
        work()
        mx.synchronize()
        return time.process_time() - started

    return run


def capture_plain(model, prompts):
    """A forward pass of each prompt; nothing is kept."""
    for prompt in prompts:
        mx.eval(model(mx.array([prompt])))


def capture_ours(model, prompts):
    """Each layer's neurons at the last token of all prompts."""
    for _, found in last_activations(model, prompts):
        mx.eval(found)


def capture_lens(lens, prompts):
    """mlx-lens: each layer's residual stream, at the last token."""
    for prompt in prompts:
        with lens.capture(layers=range(lens.n_layers)) as captured:
            lens.forward(prompt)
        mx.eval([array[:, -1] for _, array in captured.items()])


def decode(model, prompt):
    """Greedy decoding with mlx-lm's cache, as many tokens as `TOKENS`."""
    cache: list[KVCache] = make_prompt_cache(model)
    token = mx.argmax(model(mx.array([prompt]), cache=cache)[:, -1], axis=-1)
    for _ in range(TOKENS):
        token = mx.argmax(model(token[:, None], cache=cache)[:, -1], axis=-1)
        mx.eval(token)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    pairs = parser.parse_args().pairs
    print(__doc__.partition("\n\n")[2].partition("The last line")[0])
    model = llama.Model(llama.ModelArgs.from_dict(SHAPE))
    mx.eval(model.parameters())
    random = np.random.default_rng(0)
    lengths = random.integers(40, 57, PROMPTS)
    prompts = [random.integers(5, 2000, length).tolist() for length in lengths]
    circuit = random_circuit(model, 0.001)

    def decode_ours():
        with steered(model, circuit):
            decode(model, prompts[0])

    ways = {
        "capture, cna-mlx": (capture_plain, lambda: capture_ours(model, prompts)),
        "decode, cna-mlx": (decode, decode_ours),
    }
    with tempfile.TemporaryDirectory() as directory:
        if find_spec("mlx_lens"):
            from mlx_lens import LensModel

            save(model, SHAPE, Path(directory))
            lens = LensModel(directory)
            vector = mx.array(random.standard_normal(lens.d_model).astype(np.float32))

            def decode_lens():
                with lens.steer(layer=4, vector=vector, scale=0.01):
                    decode(lens.model, prompts[0])

            ways["capture, mlx-lens"] = (
                capture_plain,
                lambda: capture_lens(lens, prompts),
            )
            ways["decode, mlx-lens"] = (decode, decode_lens)
        found = {}
        for name, (plain, other) in ways.items():
            given = prompts if plain is capture_plain else prompts[0]
            budget = Budget(pairs, 120.0, time.perf_counter)
            times = in_turn(
                timed(lambda plain=plain, given=given: plain(model, given)),
                timed(other),
                budget,
            )
            work = PROMPTS if plain is capture_plain else TOKENS
            unit = "prompts" if plain is capture_plain else "tokens"
            found[name] = Comparison(name, *times, work, unit, name, "plain mlx-lm")
            low, median, high = found[name].ratio.to_json()
            print(f"{name:<20} {median:5.2f} times as fast [{low:.2f}, {high:.2f}]")
    peers = {}
    for package in ("mlx-lens", "mlx-lm", "mlx", "cna-mlx"):
        try:
            peers[package] = version(package)
        except PackageNotFoundError:
            peers[package] = None
    result = {name: one.to_json() for name, one in found.items()}
    print(json.dumps({"comparisons": result, "versions": peers}))


if __name__ == "__main__":
    main()
