"""Compare the time of an evaluation with that of another version of the source.

Both versions answer the same prompts in turns, each in a process of its own; a process
loads the model and answers a few prompts before its time is taken. Prints the median
ratio of the pairs and its quartiles, how many rows this version's steps computed and
how many of them still answered, and the answers that differ: batches of other sizes
round differently, so a near tie can fall the other way. Last, the share of the tokens
that begin an answer as the baseline's does: what a draft of that could spare.

    git worktree add ../before COMMIT
    python benchmarks/evaluation.py ../before --model ./SmolLM2-135M-Instruct
    python benchmarks/evaluation.py ../before --model demo --sweep --controls 10 \\
        --tokens 150
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

HERE = Path(__file__).resolve().parents[1]


def answered(arguments: argparse.Namespace) -> None:
    """In a process: answer the prompts, and print the seconds, steps and tokens."""
    from cna_mlx import load
    from cna_mlx.circuit import Circuit
    from cna_mlx.discovery.chosen import ChosenCircuit
    from cna_mlx.discovery.session import Session
    from cna_mlx.evaluation.options import EvalOptions
    from cna_mlx.evaluation.plan import plan_evaluation
    from cna_mlx.evaluation.runner import run_evaluation
    from cna_mlx.evaluation.subject import Subject
    from cna_mlx.prompts import load_contrast
    from cna_mlx.prompts.benchmarks import Benchmark
    from cna_mlx.steering.decoding import Batch

    steps: list[tuple[int, int]] = []
    own = Batch._next

    def counted(batch, tokens, cache):
        rows = getattr(batch, "_decoding", batch._rows)
        steps.append((len(tokens), sum(row.finish is None for row in rows)))
        return own(batch, tokens, cache)

    Batch._next = counted
    model, tokenizer = load(arguments.model)[:2]
    session = Session.of(model, tokenizer)
    contrast = load_contrast("magic" if arguments.model == "demo" else "refusal")
    circuit = Circuit.load(arguments.circuit)
    subject = Subject(ChosenCircuit(circuit), contrast.half(0))
    half, each = contrast.half(1), arguments.prompts // 2

    def run(count: int, place: Path) -> list[dict]:
        sets = [
            Benchmark.from_prompts(half.positive[:count], "harmful", "positive"),
            Benchmark.from_prompts(half.negative[:count], "benign", "negative"),
        ]
        options = EvalOptions(
            seeds=arguments.controls,
            sweep=arguments.sweep,
            max_tokens=arguments.tokens,
            extend_to=0,
            **({"batch": arguments.batch} if arguments.batch else {}),
        )
        kinds = ("matched",)
        plan = plan_evaluation(
            session, subject, sets, options, "eval", controls=kinds, out=place
        )
        started = time.perf_counter()
        run_evaluation(plan)
        seconds.append(time.perf_counter() - started)
        lines = (place / "samples.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        run(1, Path(name) / "warm")
        steps.clear()
        samples = run(each, Path(name) / "run")
    texts = {f"{one['id']} {one['arm']}": one["token_ids"] for one in samples}
    found = {"seconds": seconds[-1], "steps": steps, "texts": texts}
    print(json.dumps({**found, "drafted": drafted(samples)}))


def drafted(samples: list[dict]) -> float:
    """The share of all tokens that other arms begin with as the baseline does."""
    from cna_mlx.steering.sequences import shared_length

    baselines = {
        (one["set"], one["id"]): one["token_ids"]
        for one in samples
        if one["arm"] == "baseline"
    }
    shared = total = 0
    for one in samples:
        ids, first = one["token_ids"], baselines[one["set"], one["id"]]
        total += len(ids)
        if one["arm"] != "baseline":
            shared += shared_length(ids, first)
    return shared / total


def in_tree(tree: Path, words: list[str]) -> dict:
    """Answer with the source of a tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, __file__, "--inside", *words]
    found = subprocess.run(
        command, env=environment, cwd=tree, capture_output=True, text=True, check=False
    )
    if found.returncode:
        sys.exit(found.stderr)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", nargs="?", type=Path, help="the other source tree")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--circuit", help="a circuit's file; discovered if not given")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--controls", type=int, default=2)
    parser.add_argument("--sweep", action="store_true", help="with an audit's arms")
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument(
        "--batch", type=int, help="rows of a batch; the default's if not given"
    )
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        answered(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        words = sys.argv[1:]
        words.remove(str(arguments.before))
        if not arguments.circuit:
            path = Path(name) / "circuit.json"
            make = ["discover", arguments.model, "--no-expect", "-o", str(path)]
            subprocess.run(
                [sys.executable, "-m", "cna_mlx", *make], check=True, cwd=HERE
            )
            words += ["--circuit", str(path)]
        ratios = []
        for pair in range(arguments.pairs):
            old, new = in_tree(arguments.before, words), in_tree(HERE, words)
            ratios.append(old["seconds"] / new["seconds"])
            print(
                f"pair {pair + 1}: {old['seconds']:.1f} s before, "
                f"{new['seconds']:.1f} s now: {ratios[-1]:.2f} times as fast"
            )
    computed, occupied = (sum(column) for column in zip(*new["steps"], strict=True))
    different = sum(new["texts"][key] != text for key, text in old["texts"].items())
    spread = quantiles(ratios, n=4) if len(ratios) > 1 else ratios
    print(
        f"{median(ratios):.2f} times as fast ({spread[0]:.2f} to {spread[-1]:.2f}); "
        f"{occupied / computed:.2f} of the computed row-steps were occupied (before "
        f"{sum(b for _, b in old['steps']) / sum(a for a, _ in old['steps']):.2f}), "
        f"{median(a for a, _ in new['steps']):.0f} rows in a median step; "
        f"{different} of {len(old['texts'])} answers differ; "
        f"{new['drafted']:.0%} of the tokens begin as the baseline's"
    )


if __name__ == "__main__":
    main()
