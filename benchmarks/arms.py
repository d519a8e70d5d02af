"""Several arms in one batch against the same arms one after the other.

A token needs all weights to be read, whether for one row or for several. Where decoding
waits for memory (a GPU, or a CPU that multiplies float32 with a fast BLAS), N arms take
hardly longer than one, and the ratio goes towards N until arithmetic is the limit.
MLX's CPU backend computes 4-bit products row by row: there the ratio stays near 1.
Attention reads a KV cache for each row and gains nothing. Prefill computes rather than
reads.
The last line is one JSON object.

    python benchmarks/arms.py --model ./SmolLM2-135M-Instruct
    python benchmarks/arms.py --shape llama-8b --layers 4 --precision 4-bit
"""

import argparse
import json
import time

from random_models import add_options, chosen

from cna_mlx import render_prompt
from cna_mlx.diagnostics.bench.arms import compare_arms
from cna_mlx.diagnostics.bench.decoding import Decoder, endless
from cna_mlx.diagnostics.bench.discovering import both_sides
from cna_mlx.diagnostics.bench.physics import Physics
from cna_mlx.diagnostics.bench.timing import Budget
from cna_mlx.diagnostics.device import bandwidth
from cna_mlx.diagnostics.invariants import random_circuit
from cna_mlx.prompts import load_contrast
from cna_mlx.util.environment import environment


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--rows", default="1,2,4,8,16", help="numbers of arms")
    parser.add_argument("--chat-rows", default="2,4,8", help="with own histories")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=24)
    arguments = parser.parse_args()
    print(__doc__.partition("\n\n")[2].partition("The last line")[0])
    model, tokenizer, name = chosen(arguments)
    rows, chat = (
        [int(one) for one in text.split(",") if one]
        for text in (arguments.rows, arguments.chat_rows)
    )
    texts = both_sides(load_contrast("refusal"), max(rows + chat))
    ids = [render_prompt(tokenizer, text) for text in texts]
    decoder = Decoder(model, endless(tokenizer), ids[0], arguments.tokens)
    circuit = random_circuit(model, 0.001)
    budget = Budget(arguments.rounds, 600.0, time.perf_counter)
    found = compare_arms(decoder, circuit, rows, budget)
    if chat:
        found += compare_arms(decoder, circuit, chat, budget, histories=ids)
    around = environment()
    physics = Physics.of(
        model, ids[0], arguments.tokens, bandwidth(), around["backend"]
    )
    print("\n".join([name, *physics.lines(found[0])]))
    for one in found:
        low, median, high = one.ratio.to_json()
        print(
            f"{one.name:<24} {median:6.2f} times faster [{low:.2f}, {high:.2f}], "
            f"{one.rate:.1f} tokens/s in all"
        )
    result = {
        "model": name,
        "ratios": {one.name: round(one.ratio.median, 4) for one in found},
        "comparisons": {one.name: one.to_json() for one in found},
        "physics": physics.to_json(found[0]),
        "environment": around,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
