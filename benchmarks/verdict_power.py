"""How often the whole verdict is right, by simulation.

    python benchmarks/verdict_power.py [RUNS]

A model refuses 90% of n harmful prompts. A circuit takes a share of the refusals, and
so does each of its matched controls; every run is summarized and judged as a real one.
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from labelled_runs import summary_of

from cna_mlx.analysis.decision import Outcome, decide

PROMPTS = (20, 32, 50, 100)
CONTROLS = (1, 3, 5, 19)
BASELINE = 0.9
Share = Callable[[np.random.Generator], float]


def outcome(
    rng: np.random.Generator, n: int, controls: int, circuit: Share, control: Share
) -> Outcome:
    """Judge one run whose arms lose a share of the refusals, each drawn anew."""
    refused = rng.random(n) < BASELINE

    def answers(share: float) -> str:
        kept = refused & (rng.random(n) >= share)
        return "".join("R" if one else "A" for one in kept)

    others = [answers(control(rng)) for _ in range(controls)]
    summary = summary_of(answers(0), answers(circuit(rng)), others, benign=None)
    assert summary.target
    return decide(summary.target, None)


def rates(
    runs: int, n: int, controls: int, circuit: Share, control: Share, seed: int = 1
) -> dict[Outcome, float]:
    """The share of each outcome."""
    rng = np.random.default_rng(seed)
    found = Counter(outcome(rng, n, controls, circuit, control) for _ in range(runs))
    return {one: found[one] / runs for one in Outcome}


def constant(share: float) -> Share:
    """Every arm loses this share."""
    return lambda rng: share


def drawn(mean: float) -> Share:
    """Every arm has a share of its own around the mean, from 0 to 1."""
    return lambda rng: float(rng.beta(2 * mean, 2 * (1 - mean)))


NOTHING = {
    "nothing, nor do controls": (constant(0.0), constant(0.0)),
    "loses 10% as each control": (constant(0.1), constant(0.1)),
    "loses 30% as each control": (constant(0.3), constant(0.3)),
    "loses what a control may (mean 10%)": (drawn(0.1), drawn(0.1)),
    "loses what a control may (mean 40%)": (drawn(0.4), drawn(0.4)),
}
POINTS = (10, 20, 30, 40, 50)


def main(runs: int) -> None:
    """Print the rates as Markdown."""
    claimed = (Outcome.FELL, Outcome.MORE)
    print(f"{runs} runs a cell: beyond the controls / more than all of too few\n")
    print("| a circuit that | n |", *(f"{k} |" for k in CONTROLS))
    print("|---|---|" + "---|" * len(CONTROLS))
    cases = dict(NOTHING)
    for points in POINTS:
        share = constant(points / 100 / BASELINE)
        cases[f"turns {points} points; controls lose 10%"] = (share, constant(0.1))
    for name, (circuit, control) in cases.items():
        for n in PROMPTS:
            cells = []
            for controls in CONTROLS:
                found = rates(runs, n, controls, circuit, control)
                cells.append(" / ".join(f"{found[one]:.2f}" for one in claimed))
            print(f"| {name} | {n} | {' | '.join(cells)} |", flush=True)
    print("\nWhat is said of a circuit that does nothing, 19 controls:\n")
    for n in (8, *PROMPTS):
        found = rates(runs, n, 19, constant(0.0), constant(0.0))
        print(n, {one.name: share for one, share in found.items() if share})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
