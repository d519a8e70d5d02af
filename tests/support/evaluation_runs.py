"""Runs made by hand, as an evaluation leaves them: what tests of figures read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.evaluation.journal import opened
from cna_mlx.evaluation.run_config import RunArm, RunConfig, RunFacts, circuit_sha256
from cna_mlx.evaluation.runs import RunRecord, Status
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import label
from cna_mlx.labels.repetition import quality

REFUSAL = "I'm sorry, but I can't help with that."
ANSWER = "Sure. Here is how it is done: first take a cup, then pour the water in."
GARBAGE = "the the the the the the the the the the the the the the the the the the"
CATEGORIES = ("Fraud", "Privacy")

BASELINE = RunArm("baseline", "baseline")
ABLATED = RunArm("ablated", "ablated", 0.0, None, "circuit")
ARMS = (
    BASELINE,
    ABLATED,
    RunArm("matched 0", "matched", 0.0, 0, "matched-0"),
    RunArm("matched 1", "matched", 0.0, 1, "matched-1"),
    RunArm("uniform 0", "uniform", 0.0, 0, "uniform-0"),
)
SWEEP = (
    *ARMS[:2],
    RunArm("m=0.5", "scaled", 0.5, None, "circuit"),
    RunArm("m=1.5", "scaled", 1.5, None, "circuit"),
    RunArm("CAA -1", "caa", -1.0),
    RunArm("CAA -0.5", "caa", -0.5),
    *ARMS[2:],
)

Answers = Callable[[RunArm, int, str], str]


def usual_answers(arm: RunArm, number: int, kind: str) -> str:
    """Harmful prompts are refused, by the steered arms every other one; rest not."""
    if kind == "benign":
        return f"{ANSWER} ({number})"
    is_refused = number % 2 == 0 or arm.role in ("baseline", "matched", "uniform")
    return REFUSAL if is_refused else f"{ANSWER} ({number})"


def make_circuit(seed: int = 0) -> Circuit:
    """Four neurons that are none of another seed's."""
    return Circuit.from_neurons((layer, 7 * seed + layer, 1.0) for layer in range(4))


def make_config(
    arms: Sequence[RunArm] = ARMS,
    harmful: int = 8,
    benign: int = 4,
    model: str = "somebody/tiny-llama",
    **changes: Any,
) -> RunConfig:
    """A configuration as an evaluation writes it."""
    counts = {"harmful": harmful, "benign": benign}
    sets = [
        {
            "name": f"{kind}-set",
            "prompts": count,
            "source": f"somebody/prompts, {kind}.csv",
            "revision": "886acc352a31533ffaf4",
            "sha256": "c" * 64,
            "file_sha256": "d" * 64,
            "is_published": True,
            "licence": "MIT",
            "citation": "Somebody (2024)",
            "note": None,
        }
        for kind, count in counts.items()
        if count
    ]
    names = dict.fromkeys(arm.circuit for arm in arms if arm.circuit)
    circuits = {
        name: {
            "file": None,
            "fingerprint": "f" * 64,
            "neurons": 4,
            "k": 4,
            "contrast": {"name": "refusal", "positive": 100, "negative": 100},
            "fraction": 0.001,
            "rank": "delta",
            "layers": None,
            "sha256": circuit_sha256(make_circuit(seed)),
            "control": name.rpartition("-")[0] or None,
            "seed": None,
        }
        for seed, name in enumerate(names)
    }
    data = {
        "command": "eval",
        "model": {
            "id": model,
            "revision": "0123456789abcdef0123456789abcdef01234567",
            "fingerprint": "f" * 64,
            "architecture": "llama",
            "quantization": "4-bit, groups of 64",
            "d_ff": [1024] * 4,
        },
        "rendering": {
            "template": "auto",
            "system": None,
            "thinking": False,
            "date": "2024-07-26",
            "injected_system": None,
            "reference_sha256": "e" * 64,
        },
        "circuits": circuits,
        "arms": [arm.to_dict() for arm in arms],
        "sets": sets,
        "limit": None,
        "max_tokens": 150,
        "kl_tokens": 32,
        "sampling": "greedy",
        "rows": len(arms),
        "gauge": True,
        **changes,
    }
    return RunConfig.from_dict(data)


def make_sample(
    arm: RunArm, number: int, kind: str, text: str, **changes: Any
) -> Sample:
    """An answer to the number-th prompt, labelled and measured as a run does it."""
    found = label(text)
    values: dict[str, Any] = {
        "number": number,
        "set": f"{kind}-set",
        "id": f"{kind}-{number}",
        "category": CATEGORIES[number % len(CATEGORIES)],
        "kind": kind,
        "prompt": f"How do I do the {kind} thing number {number} in my own kitchen?",
        "arm": arm.label,
        "text": text,
        "token_ids": tuple(range(len(text.split()))),
        "finish": "stop",
        "label": found.kind,
        "span": found.span,
        "quality": quality(text),
        "kl": 0.0 if arm.role == "baseline" else 0.25,
        "gauge": 0.9 if kind == "harmful" else 0.1,
        "seconds": 1.5,
    }
    return Sample(**{**values, **changes})


def make_run(
    directory: Path,
    *,
    arms: Sequence[RunArm] = ARMS,
    harmful: int = 8,
    benign: int = 4,
    done: int | None = None,
    answers: Answers = usual_answers,
    status: Status = "complete",
    facts: dict[str, Any] | None = None,
    sample: dict[str, Any] | None = None,
    **config: Any,
) -> RunRecord:
    """A run on the disk, written by the journal itself.

    Args:
        directory: where it will lie.
        arms: the first is the baseline.
        harmful, benign: how many prompts of each kind are planned.
        done: how many are answered; all if None.
        answers: an arm, the number of a prompt and its kind to the answer.
        status: how it ended.
        facts: of ``run.json``, beyond the usual ones.
        sample: fields of every sample, e.g. ``kl``.
        config: entries of the configuration to replace.
    """
    resolved = make_config(arms, harmful, benign, **config)
    names = dict.fromkeys(arm.circuit for arm in arms if arm.circuit)
    circuits = {name: make_circuit(seed) for seed, name in enumerate(names)}
    kinds = ["harmful"] * harmful + ["benign"] * benign
    known = {
        "contamination": {f"{kind}-set": [] for kind in dict.fromkeys(kinds)},
        "environment": {
            "system": "macOS 26.1, arm64",
            "device": "Apple M4",
            "backend": "metal",
            "blas": "Accelerate",
            "python": "3.12.1",
            "versions": {"cna-mlx": "0.1.0", "mlx": "0.32.0", "mlx-lm": "0.32.0"},
        },
        **(facts or {}),
    }
    with opened(directory, resolved, circuits, RunFacts.from_dict(known)) as journal:
        for number, kind in enumerate(kinds[:done]):
            journal.add(
                [
                    make_sample(
                        arm, number, kind, answers(arm, number, kind), **(sample or {})
                    )
                    for arm in arms
                ]
            )
        journal.finish(status)
    return RunRecord.load(directory)
