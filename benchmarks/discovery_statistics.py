"""Time what a discovery adds to its walk over the layers: scores, halves, folds, bank.

The default is two layers of an 8B model with random weights in float32, and the
built-in contrast and bank. Prints the share of a discovery's time that is not the
walk's, by the median of interleaved pairs.

    python benchmarks/discovery_statistics.py
    python benchmarks/discovery_statistics.py --model ./SmolLM2-135M-Instruct
"""

import argparse
import time
from statistics import median

from random_models import add_options, chosen

from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.prompts import load_bank, load_contrast
from cna_mlx.prompts.chat_template import Rendering, render_prompt


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.set_defaults(shape="llama-8b", layers=2)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    model, tokenizer, name = chosen(arguments)
    contrast = load_contrast("refusal")
    sets = [contrast, *load_bank()]
    texts = [text for one in sets for text in (*one.positive, *one.negative)]
    ids = [render_prompt(tokenizer, text, Rendering()) for text in texts]

    def walk() -> None:
        for _ in last_activations(model, ids):
            pass

    def discovery() -> None:
        run_discovery(model, tokenizer, contrast)

    discovery()  # warms up, and computes the fingerprint
    seconds: dict[str, list[float]] = {"walk": [], "discovery": []}
    for pair in range(arguments.pairs):
        works = [("walk", walk), ("discovery", discovery)]
        for kind, work in works[:: -1 if pair % 2 else 1]:
            started = time.perf_counter()
            work()
            seconds[kind].append(time.perf_counter() - started)
        print({kind: round(values[-1], 2) for kind, values in seconds.items()})
    shares = [
        1 - own / whole
        for own, whole in zip(seconds["walk"], seconds["discovery"], strict=True)
    ]
    print(f"{name}: {median(shares):.1%} of a discovery's time is not the walk's")


if __name__ == "__main__":
    main()
