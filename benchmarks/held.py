"""Measure what the activations of one long prompt hold in memory after the walk.

The last token has d_ff numbers per layer: less than a megabyte in all. But a slice of a
layer's [1, length, d_ff] buffer keeps the whole buffer alive, and so do many ways to
convert it; then a prompt of 1,024 tokens holds tens of megabytes. The last line is one
JSON object.

    python benchmarks/held.py --model ./SmolLM2-135M-Instruct
"""

import argparse
import gc
import json

import mlx.core as mx
import numpy as np
from random_models import add_options, chosen

from cna_mlx.diagnostics.bench.walks import peak_of
from cna_mlx.discovery.activations import last_activations


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--tokens", type=int, default=1024)
    arguments = parser.parse_args()
    model, _, name = chosen(arguments)
    prompt = np.random.default_rng(0).integers(5, 2000, arguments.tokens).tolist()
    mx.eval(model.parameters())
    before = mx.get_active_memory()
    kept = []
    peak = peak_of(lambda: kept.extend(last_activations(model, [prompt])))
    mx.synchronize()
    gc.collect()
    result = {
        "model": name,
        "tokens": arguments.tokens,
        "held_bytes": mx.get_active_memory() - before,
        "activation_bytes": sum(found.nbytes for _, found in kept),
        "peak_bytes": peak,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
