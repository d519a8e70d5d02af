"""Compare capture and steering with another tool's, on the same work.

A small random Llama (hidden 512, 8 layers, d_ff 2,048, 8,192 ids) in float32 reads 32
prompts of 40 to 56 random ids without a common prefix, and keeps one vector per layer
at the last token. Then it decodes, unsteered and steered. The plain way is mlx-lm
alone: `model(tokens)` for each prompt, and a greedy loop. Times are CPU times of the
process, so other programs count little; ratios are medians of interleaved pairs.
mlx-lens takes part if it is installed: it captures the residual stream, not neurons,
and adds a vector to it. The last line is one JSON object.

    pip install mlx-lens
    python benchmarks/peers.py
"""

import argparse
import json
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache
from random_models import SHAPES, save

from cna_mlx import steered
from cna_mlx.diagnostics.bench.timing import Budget, Comparison
from cna_mlx.diagnostics.bench.walks import forward_each
from cna_mlx.diagnostics.invariants import random_circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.util.environment import versions

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


def capture_ours(model, prompts):
    """Each layer's neurons at the last token of all prompts."""
    for _, found in last_activations(model, prompts):
        mx.eval(found)


def capture_lens(lens, prompts):
    """mlx-lens: each layer's residual stream at the last token."""
    for prompt in prompts:
        with lens.capture(layers=range(lens.n_layers)) as captured:
            lens.forward(prompt)
        mx.eval([array[:, -1] for _, array in captured.items()])


def decode(model, prompt, context=None):
    """Decode `TOKENS` tokens greedily, inside a context if there is one."""
    if context is not None:
        with context():
            return decode(model, prompt)
    cache = make_prompt_cache(model)
    token = mx.argmax(model(mx.array([prompt]), cache=cache)[:, -1], axis=-1)
    for _ in range(TOKENS):
        token = mx.argmax(model(token[:, None], cache=cache)[:, -1], axis=-1)
        mx.eval(token)
    return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    budget = Budget(parser.parse_args().pairs, 120.0, time.process_time)
    model = llama.Model(llama.ModelArgs.from_dict(SHAPE))
    mx.eval(model.parameters())
    random = np.random.default_rng(0)
    lengths = random.integers(40, 57, PROMPTS)
    prompts = [random.integers(5, 2000, length).tolist() for length in lengths]
    ours = partial(steered, model, random_circuit(model, 0.001))
    plain = {
        "capture": (partial(forward_each, model, prompts), PROMPTS, "prompts"),
        "decode": (partial(decode, model, prompts[0]), TOKENS, "tokens"),
    }
    ways = {
        "capture, cna-mlx": partial(capture_ours, model, prompts),
        "decode, cna-mlx": partial(decode, model, prompts[0], ours),
    }
    with tempfile.TemporaryDirectory() as directory:
        if find_spec("mlx_lens"):
            from mlx_lens import LensModel

            save(model, SHAPE, Path(directory))
            lens = LensModel(directory)
            vector = mx.array(random.standard_normal(lens.d_model).astype(np.float32))
            theirs = partial(lens.steer, layer=4, vector=vector, scale=0.01)
            ways["capture, mlx-lens"] = partial(capture_lens, lens, prompts)
            ways["decode, mlx-lens"] = partial(decode, lens.model, prompts[0], theirs)
        found = {}
        for name, way in ways.items():
            work, count, unit = plain[name.partition(",")[0]]
            one = Comparison(name, name, "plain mlx-lm", count, unit)
            one = one.timed(budget.timed(work), budget.timed(way), budget)
            low, median, high = one.ratio
            print(f"{name:<20} {median:5.2f} times as fast [{low:.2f}, {high:.2f}]")
            found[name] = one.to_dict()
    packages = versions("mlx-lens", "mlx-lm", "mlx", "cna-mlx")
    print(json.dumps({"comparisons": found, "versions": packages}))


if __name__ == "__main__":
    main()
