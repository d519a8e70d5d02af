"""What the activations of one long prompt hold in memory once they were read.

The last token's neurons are d_ff numbers a layer: less than a megabyte in all. But a
slice of a layer's [1, length, d_ff] buffer keeps the whole buffer alive, and so do many
ways to convert it; then one prompt of 1,024 tokens holds tens of megabytes. A gathered
row is a buffer of its own. Counted is what MLX holds after the walk beyond what it held
before it, while every layer's activations are kept.
The last line is one JSON object.

    python benchmarks/held.py --model ./SmolLM2-135M-Instruct
"""

import argparse
import gc
import json

import mlx.core as mx
import numpy as np
from random_models import add_options, chosen

from cna_mlx.discovery.activations import last_activations


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--tokens", type=int, default=1024)
    arguments = parser.parse_args()
    print(__doc__.partition("\n\n")[2].partition("The last line")[0])
    model, _, name = chosen(arguments)
    prompt = np.random.default_rng(0).integers(5, 2000, arguments.tokens).tolist()
    mx.eval(model.parameters())
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    kept = [found for _, found in last_activations(model, [prompt])]
    mx.synchronize()
    gc.collect()
    held = mx.get_active_memory() - before
    peak = mx.get_peak_memory() - before
    own = sum(found.nbytes for found in kept)
    print(f"{name}: after one prompt of {arguments.tokens} tokens")
    print(f"held {held / 1e6:.2f} MB, of which {own / 1e6:.2f} MB are the activations")
    print(f"at most {peak / 1e6:.0f} MB on the way")
    result = {
        "model": name,
        "tokens": arguments.tokens,
        "held_bytes": held,
        "activation_bytes": own,
        "peak_bytes": peak,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
