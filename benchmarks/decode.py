"""Steered decoding against plain mlx-lm's, timed by a clock of its own.

To decode a token, every weight is read once, and little is done with it: the time is
that of the reading. Scaling neurons adds one multiplication to a kernel that is there
anyway, so a steered token should take as long as a plain one (ratio 1.00); what it
costs more is Python's time for each layer, and shows where the model is small. This
script shares no timing code with the package: it runs mlx-lm's `generate_step` with its
detokenizer, and `generate_arms`, in turn, then `cna-mlx bench --only decoding --json`
in a process of its own, and tells by how much the two ratios differ.
The last line is one JSON object.

    python benchmarks/decode.py --model ./SmolLM2-135M-Instruct
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.generate import generate_step
from random_models import add_options, chosen, make, save

from cna_mlx import Arm, Circuit, Token, generate_arms, render_prompt

QUESTION = "How does a neuron in a language model differ from one in a brain?"


class Endless:
    """A tokenizer without an end of text, as mlx-lm takes it."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.eos_token_ids = set()

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def tokens_per_second(marks):
    """From the first token on: what came before is the prompt's."""
    return (len(marks) - 1) / (marks[-1] - marks[0])


def plain(model, tokenizer, prompt, count):
    """mlx-lm's own loop, with text as stream_generate makes it."""
    mx.synchronize()
    steps = generate_step(mx.array(prompt), model, max_tokens=count)
    detokenizer = tokenizer.detokenizer
    marks = []
    for token, _ in steps:
        detokenizer.add_token(token)
        _ = detokenizer.last_segment
        marks.append(time.perf_counter())
    return tokens_per_second(marks)


def steered(model, tokenizer, prompt, count, circuit):
    """The tool's loop, one ablated arm."""
    mx.synchronize()
    arms = [Arm.of(circuit, 0.0)]
    events = generate_arms(model, tokenizer, [prompt], arms, max_tokens=count)
    marks = [time.perf_counter() for event in events if isinstance(event, Token)]
    return tokens_per_second(marks)


def random_circuit(model, share=0.001):
    """A share of the neurons of every layer: each of them is hooked."""
    random = np.random.default_rng(1)
    widths = [layer.mlp.gate_proj.weight.shape[0] for layer in model.layers]
    return Circuit.from_neurons(
        (layer, int(index))
        for layer, width in enumerate(widths)
        for index in random.choice(width, max(1, round(share * width)), replace=False)
    )


def by_bench(arguments, directory):
    """What `cna-mlx bench` says of the same model."""
    name = arguments.model
    if name is None:
        name = str(directory)
        save(*make(arguments.shape, arguments.precision, arguments.layers), directory)
    command = [sys.executable, "-m", "cna_mlx", "bench", name, "--only", "decoding"]
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=32)
    arguments = parser.parse_args()
    print(__doc__.partition("\n\n")[2].partition("The last line")[0])
    model, tokenizer, name = chosen(arguments)
    endless, circuit = Endless(tokenizer), random_circuit(model)
    prompt = render_prompt(tokenizer, QUESTION)
    work = model, endless, prompt, arguments.tokens
    plain(*work)
    steered(*work, circuit)
    rates = []
    for number in range(arguments.pairs):
        if number % 2:
            own = steered(*work, circuit)
            rates.append((plain(*work), own))
        else:
            rates.append((plain(*work), steered(*work, circuit)))
    ratios = [own / theirs for theirs, own in rates]
    del model, work
    mx.clear_cache()
    with tempfile.TemporaryDirectory() as directory:
        bench = by_bench(arguments, Path(directory) / "model")
    ratio, said = statistics.median(ratios), bench["ratios"]["steered_decode"]
    low, _, high = statistics.quantiles(ratios, n=4)
    print(f"{name}, {len(prompt)} + {arguments.tokens} tokens, {len(ratios)} pairs")
    medians = [statistics.median(column) for column in zip(*rates, strict=True)]
    print(f"plain {medians[0]:.1f} tokens/s, steered {medians[1]:.1f}")
    print(f"ratio {ratio:.3f} [{low:.3f}, {high:.3f}]; bench says {said:.3f}")
    result = {
        "model": name,
        "steered_decode": round(ratio, 4),
        "quartiles": [round(low, 4), round(high, 4)],
        "bench_steered_decode": said,
        "bench_quartiles": bench["comparisons"]["steered_decode"]["ratio"][::2],
        "difference": round(abs(ratio / said - 1), 4),
        "agrees": bool(abs(ratio / said - 1) <= 0.05),
        "plain_tokens_per_second": round(medians[0], 2),
        "environment": bench["environment"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
