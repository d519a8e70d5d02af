"""Patch a circuit's activations from one prompt into another, and answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cna_mlx.analysis.decision import FEWEST
from cna_mlx.analysis.patching import (
    BASELINE,
    CLAIMS,
    PATCHED,
    Claim,
    PatchEffect,
    patch_effect,
)
from cna_mlx.analysis.patching_pairs import Chosen, Pair, choose, usable_pairs
from cna_mlx.circuit import Circuit, Details
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.chosen import circuit_entry
from cna_mlx.discovery.controls import matched_controls, stand_ins
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.evaluation.arms import AUDIT_SEEDS
from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.evaluation.samples import Sample
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.benchmarks import EvalPrompt
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms
from cna_mlx.strength import Pin
from cna_mlx.util.files import File
from cna_mlx.util.progress import SILENT, Reporter

_CONSTANTS = Pin()


@dataclass(frozen=True)
class PatchOptions:
    """How a circuit is patched.

    Attributes:
        pairs: of a refused and an answered prompt, at most.
        controls: matched random controls.
        max_tokens: new tokens of an answer; enough to recognize a refusal.

    Raises:
        InputError: a value is out of range.
    """

    pairs: int = 24
    controls: int = AUDIT_SEEDS
    max_tokens: int = 48

    def __post_init__(self) -> None:
        if self.pairs < FEWEST:
            raise InputError(f"--pairs {self.pairs}: give {FEWEST} or more")
        if self.controls < 0 or self.max_tokens < 1:
            raise InputError("give 0 or more controls and 1 or more tokens")


@dataclass(frozen=True)
class PatchResult:
    """What patching a circuit showed.

    Attributes:
        contrast: where the pairs are from.
        seen: whether the circuit's discovery used these prompts; None if unknown.
        pairs: that were asked for; ``done`` of them are answered.
        sufficient, necessary: in either direction; None before the first pair.
        samples: every answer, ``set`` being the direction and ``number`` the pair.
    """

    circuit: Circuit
    contrast: str
    seen: bool | None
    pairs: int
    done: int
    sufficient: PatchEffect | None
    necessary: PatchEffect | None
    samples: tuple[Sample, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every pair is answered."""
        return self.done == self.pairs

    @property
    def effects(self) -> list[PatchEffect]:
        """Both directions, if there are figures."""
        return [one for one in (self.sufficient, self.necessary) if one]

    def to_dict(self) -> dict[str, Any]:
        """The figures for JSON, with the unsteered and the patched answers."""
        return {
            "circuit": circuit_entry(self.circuit),
            "contrast": self.contrast,
            "seen_by_discovery": self.seen,
            "pairs": {"done": self.done, "planned": self.pairs},
            "sufficient": self.sufficient and self.sufficient.to_dict(),
            "necessary": self.necessary and self.necessary.to_dict(),
            "answers": [
                one.to_row() for one in self.samples if one.arm in (BASELINE, PATCHED)
            ],
        }


def patch_circuit(
    model: Any,
    tokenizer: Any,
    circuit: File | Circuit | None = None,
    contrast: str | PromptSet | None = None,
    *,
    options: PatchOptions | None = None,
    rendering: Rendering | None = None,
    reporter: Reporter = SILENT,
) -> PatchResult:
    """Pin a circuit to its activations of other prompts, in both directions.

    The circuit's activations at the last token of a refused prompt are put into an
    answered one, at its last token: if the model refuses, they are sufficient. The
    reverse shows whether they are necessary. Beside them, matched random neurons.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        circuit: a circuit or its file; if None, the one that the odd prompts of the
            contrast give, and the even ones are the pairs.
        contrast: whose prompts are paired by their place; if None, the circuit's own,
            without the prompts that its discovery used, or the model's default.
        options: how many pairs and controls.
        rendering: how prompts become token ids.
        reporter: called while it works; its ``stop`` ends early.

    Raises:
        CircuitError: the circuit does not fit the model.
        InputError: too few pairs of a refused and an answered prompt.

    Source: Heimersheim and Nanda, arXiv 2404.15255, section 3.
    """
    session = Session.of(model, tokenizer, rendering, reporter)
    return patch_session(session, circuit, DiscoveryOptions(contrast), options)


@wired()
def patch_session(
    session: Session,
    circuit: File | Circuit | None = None,
    discovery: DiscoveryOptions | None = None,
    options: PatchOptions | None = None,
) -> PatchResult:
    """Do what :func:`patch_circuit` does with a session's model."""
    discovery, options = discovery or DiscoveryOptions(), options or PatchOptions()
    return _Patch(session, choose(session, circuit, discovery), options).run()


@dataclass(frozen=True)
class _Patch:
    session: Session
    chosen: Chosen
    options: PatchOptions

    def run(self) -> PatchResult:
        session, options = self.session, self.options
        prompts, circuit = self.chosen.prompts, self.chosen.circuit
        pairs = usable_pairs(session, prompts, options.pairs, options.max_tokens)
        if pairs is None:
            return self._result(options.pairs, {}, [])
        made_by = session.reference(prompts)
        controls = matched_controls(circuit, made_by.magnitudes, options.controls)
        samples = self._patched(pairs, [circuit, *controls])
        return self._result(len(pairs), samples, controls)

    def _patched(
        self, pairs: Sequence[Pair], circuits: Sequence[Circuit]
    ) -> dict[Claim, list[Sample]]:
        """The answers of whole pairs, in both directions."""
        report = self.session.reporter
        activations = self._read(pairs, circuits)
        samples: dict[Claim, list[Sample]] = {claim: [] for claim in CLAIMS}
        with report.progress("pairs") as progress, report.watching():
            for number, pair in enumerate(pairs):
                values = [rows[number] for rows in activations]
                batches = [
                    self._answered(pair, number, own, patch_arms(circuits, values, own))
                    for own in (1, 0)
                    if not report.stop()
                ]
                if len(batches) < len(CLAIMS) or not all(batches):
                    break
                for one, batch in zip(samples.values(), batches, strict=True):
                    one += batch
                progress("Patching", number + 1, len(pairs))
        return samples

    def _result(
        self,
        planned: int,
        samples: dict[Claim, list[Sample]],
        controls: Sequence[Circuit],
    ) -> PatchResult:
        chosen, arms = self.chosen, _run_arms(len(controls))
        shared = stand_ins(chosen.circuit, controls) if controls else None
        effects = {
            claim: patch_effect(claim, batch, arms, shared)
            for claim, batch in samples.items()
            if batch
        }
        return PatchResult(
            chosen.circuit,
            chosen.prompts.name,
            chosen.seen,
            planned,
            len(samples.get("necessary", ())) // len(arms),
            effects.get("sufficient"),
            effects.get("necessary"),
            tuple(one for batch in samples.values() for one in batch),
        )

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        tokenizer, rendering = self.session.tokenizer, self.session.rendering
        return [render_prompt(tokenizer, text, rendering) for text in texts]

    def _read(
        self, pairs: Sequence[Pair], circuits: Sequence[Circuit]
    ) -> list[np.ndarray]:
        """Each circuit's activations at the last token, [pairs, 2, neurons]."""
        ids = self._ids([text for pair in pairs for text in pair])
        found = [np.empty((len(ids), len(c.neurons)), np.float32) for c in circuits]
        for layer, activations in last_activations(self.session.model, ids):
            rows = np.array(activations)
            for circuit, own in zip(circuits, found, strict=True):
                members = circuit.neurons
                here = [at for at, one in enumerate(members) if one.layer == layer]
                own[:, here] = rows[:, [members[at].index for at in here]]
        return [own.reshape(len(pairs), 2, -1) for own in found]

    def _answered(
        self, pair: Pair, number: int, own: int, arms: Sequence[Arm]
    ) -> list[Sample]:
        """The answers to one prompt of a pair; empty if stopped."""
        claim = CLAIMS[1 - own]
        prompt = EvalPrompt(
            f"{claim}-{number}", pair[own], None, "benign" if own else "harmful"
        )
        events = generate_arms(
            *self.session.load(),
            self._ids([prompt.text]),
            arms,
            max_tokens=self.options.max_tokens,
            once=True,
            stop=self.session.reporter.stop,
        )
        answers = [one for one in events if isinstance(one, Answer)]
        if len(answers) < len(arms) or any(a.finish == "interrupted" for a in answers):
            return []
        answers.sort(key=lambda one: one.arm)
        return [
            Sample.of(number, claim, prompt, arm.label, answer)
            for arm, answer in zip(arms, answers, strict=True)
        ]


def patch_arms(
    circuits: Sequence[Circuit], activations: Sequence[np.ndarray], own: int
) -> list[Arm]:
    """The arms of one prompt: unsteered, patched, and the controls.

    Args:
        circuits: the circuit, then its controls.
        activations: of each circuit's neurons, [2, neurons]: in the refused prompt and
            in the answered one.
        own: which of the two is the prompt that is answered.
    """
    labels = [one.label for one in _run_arms(len(circuits) - 1)]
    rows = zip(labels[1:], circuits, activations, strict=True)
    return [
        Arm(labels[0]),
        *(
            Arm.of(_pinned(circuit, values[1 - own]), _CONSTANTS, label)
            for label, circuit, values in rows
        ),
    ]


def _pinned(circuit: Circuit, values: np.ndarray) -> Circuit:
    """The circuit with constants to pin its neurons to."""
    details = tuple(Details(shift=value) for value in values.tolist())
    return replace(circuit, moments=(), details=details)


def _run_arms(controls: int) -> list[RunArm]:
    """The roles of the arms."""
    return [
        RunArm(BASELINE, "baseline"),
        RunArm.of(PATCHED, "pinned", _CONSTANTS, circuit="circuit"),
        *(
            RunArm.of(f"matched {n}", "matched", _CONSTANTS, seed=n)
            for n in range(controls)
        ),
    ]
