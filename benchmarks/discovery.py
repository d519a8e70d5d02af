"""Discovery of 200 short chat prompts against a plain forward pass of each.

A plain `model(tokens)` computes every token of every prompt, and logits for each of
them. To find neurons less is needed: what all prompts begin with (a chat template's
header is half of a short prompt) is computed once, the prompts go through each layer in
batches, so that its weights are read once for many, the last layer's MLP sees last
tokens only, and there are no logits at all. "walk" reads the neurons and takes the
difference of the sides; "discover" is the whole discovery without the bank: rendering,
moments, cross-validation, split halves, fingerprint.
The last line is one JSON object.

    python benchmarks/discovery.py --model ./SmolLM2-135M-Instruct
"""

import argparse
import json
import time

from random_models import add_options, chosen

from cna_mlx import render_prompt
from cna_mlx.diagnostics.bench.discovering import (
    both_sides,
    compare_walks,
    deltas,
    forward_each,
    shared_share,
)
from cna_mlx.diagnostics.bench.timing import Budget
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.selection import Selection
from cna_mlx.prompts import PromptSet, load_contrast
from cna_mlx.util.environment import environment


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    print(__doc__.partition("\n\n")[2].partition("The last line")[0])
    model, tokenizer, name = chosen(arguments)
    texts = both_sides(load_contrast("refusal"), arguments.prompts)
    ids = [render_prompt(tokenizer, text) for text in texts]
    contrast = PromptSet.from_prompts(texts[0::2], texts[1::2])
    selection = Selection(universal=False)

    def discover(model, ids):
        run_discovery(model, tokenizer, contrast, selection)

    budget = Budget(arguments.pairs, 600.0, time.perf_counter)
    against = "a plain forward of each"
    found = [
        compare_walks(model, ids, (forward_each, way), (key, key, against), budget)
        for key, way in (("walk", deltas), ("discover", discover))
    ]
    tokens = sum(map(len, ids)) / len(ids)
    share = shared_share(ids)
    print(f"{name}: {len(ids)} prompts of {tokens:.0f} tokens, {share:.0%} shared")
    for one in found:
        spread = one.ratio
        print(
            f"{one.name:<9} {spread.median:.2f} times faster "
            f"[{spread.low:.2f}, {spread.high:.2f}], {one.rate:.1f} prompts/s, "
            f"plain {one.plain_rate:.1f}"
        )
    result = {
        "model": name,
        "prompts": len(ids),
        "tokens_per_prompt": round(tokens, 1),
        "shared": round(share, 3),
        **{one.name: one.to_json() for one in found},
        "environment": environment(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
