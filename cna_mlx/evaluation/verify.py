"""Answer a few prompts of a run again, and compare the answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError, ModelError
from cna_mlx.evaluation.arms import arm_of, load_direction
from cna_mlx.evaluation.asked import Evaluation
from cna_mlx.evaluation.batches import answer_group
from cna_mlx.evaluation.order import GROUPED, sizes
from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.models.families import experts_of, widths
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.models.loading import ModelOptions
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt
from cna_mlx.prompts.chat_template import Rendering, reference_hash
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.steering.sequences import shared_length
from cna_mlx.util.environment import environment
from cna_mlx.util.progress import SILENT, Reporter


@dataclass(frozen=True)
class Repeated:
    """A sample of a run, and the same prompt and arm answered again."""

    old: Sample
    new: Sample

    @property
    def is_same(self) -> bool:
        """Whether every token is the same."""
        return self.old.token_ids == self.new.token_ids

    @property
    def has_same_label(self) -> bool:
        """Whether this version gives both texts the same label."""
        return self.old.relabelled().label is self.new.label

    @property
    def parts_at(self) -> int | None:
        """The first token that differs, from 0; None if none does."""
        if self.is_same:
            return None
        return shared_length(self.old.token_ids, self.new.token_ids)

    def to_dict(self) -> dict[str, Any]:
        """The comparison for JSON, without the texts."""
        return {
            "set": self.old.set,
            "id": self.old.id,
            "arm": self.old.arm,
            "same_tokens": self.is_same,
            "parts_at": self.parts_at,
            "tokens": [len(self.old.token_ids), len(self.new.token_ids)],
            "label": [str(self.old.label), str(self.new.label)],
            "same_label": self.has_same_label,
        }


@dataclass(frozen=True)
class Verification:
    """A part of a run answered again: samples arm by arm for each prompt."""

    run: RunRecord
    samples: tuple[Repeated, ...]
    environment: dict[str, Any]

    @property
    def prompts(self) -> int:
        """How many prompts were answered again."""
        return len(self.samples) // len(self.run.arms)

    @property
    def same_tokens(self) -> int:
        """How many samples have the same tokens."""
        return sum(one.is_same for one in self.samples)

    @property
    def same_label(self) -> int:
        """How many samples have the same label."""
        return sum(one.has_same_label for one in self.samples)

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON, without the texts."""
        return {
            "run": str(self.run.directory),
            "prompts": self.prompts,
            "samples": len(self.samples),
            "same_tokens": self.same_tokens,
            "same_label": self.same_label,
            "results": [one.to_dict() for one in self.samples],
            "environment": self.environment,
            "run_environment": self.run.facts.to_dict().get("environment"),
        }


@wired()
def verify(
    run: RunRecord,
    *,
    model: str | None = None,
    offline: bool = False,
    count: int = 10,
    reporter: Reporter = SILENT,
) -> Verification:
    """Answer some prompts of a run again, in the same batches.

    Args:
        model: where its model is on this machine; None: its recorded place.
        reporter: its ``stop`` ends early and keeps the samples so far.

    Raises:
        ModelError: the model has other weights.
        InputError: the run has no samples, or cannot be repeated as it was.
        CircuitError: a circuit of the run is missing, or does not fit the model.
    """
    session = _open(run, model, offline, reporter)
    found: list[Repeated] = []
    with reporter.progress("prompts") as progress, reporter.watching():
        for repeated in _repeat(run, session, count):
            found += repeated
            done = len(found) // len(run.arms)
            progress("Answering again", done, max(done, count))
    return Verification(run, tuple(found), environment())


def _open(
    run: RunRecord, model: str | None, offline: bool, reporter: Reporter
) -> Session:
    own = run.config.model
    revision = own.revision if model is None else None
    name = model or str(own.id)
    source = ModelOptions(revision, offline)
    session = Session(name, source=source, reporter=reporter)
    if fingerprint(session.model) != own.fingerprint:
        raise ModelError(
            f"{name} has other weights than the run's model ({own.id}, "
            f"{own.quantization}); name the right one with --model"
        )
    return session


def _repeat(run: RunRecord, session: Session, count: int) -> Iterator[list[Repeated]]:
    samples, arms = run.samples(), run.arms
    if not samples:
        raise InputError(f"{run.directory}: no prompt is answered yet")
    rendering = _rendering(run, session.tokenizer)
    circuits = run.circuits
    sizes, experts = widths(session.model), experts_of(session.model)
    for circuit in circuits.values():
        circuit.check_shape(sizes, experts)
    has_caa = any(arm.role == "caa" for arm in arms)
    direction = load_direction(run.directory) if has_caa else None
    steering = [arm_of(arm, circuits, direction) for arm in arms]
    # a run answers a repeated prompt once
    texts = [(one.prompt, one.kind) for one in samples[:: len(arms)]]
    new = {texts.index(text) for text in set(texts)}
    for group in _groups(run, count):
        if not (numbers := [number for number in group if number in new]):
            continue
        batch = [
            sample
            for number in numbers
            for sample in samples[number * len(arms) : (number + 1) * len(arms)]
        ]
        evaluation = Evaluation(
            session.model,
            session.tokenizer,
            [_benchmark(one) for one in batch[:: len(arms)]],
            steering,
            rendering,
            run.config.max_tokens or 0,
            0,  # labels and tokens are compared
            _gauge(run, arms, circuits),
            rows=_rows(run),
        )
        found = answer_group(evaluation, range(len(numbers)), session.reporter.stop)
        if found is None:
            return
        again = [one for prompt in found for one in prompt]
        yield [Repeated(old, new) for old, new in zip(batch, again, strict=True)]


def _groups(run: RunRecord, count: int) -> list[range]:
    """The numbers of the prompts to repeat, about ``count``, in groups as answered."""
    done = len(run.samples()) // len(run.arms)
    _, size = sizes(_rows(run), len(run.arms))
    starts = range(0, done, size)
    chosen = spread(len(starts), -(-count // size))
    return [range(starts[at], min(starts[at] + size, done)) for at in chosen]


def _rows(run: RunRecord) -> int:
    """The rows of its batches; 0 where each prompt was a batch."""
    return (run.config.rows or 0) if run.config.order == GROUPED else 0


def _benchmark(sample: Sample) -> Benchmark:
    """A sample's prompt as a set of its own."""
    prompt = EvalPrompt(
        sample.id,
        sample.prompt,
        sample.category,
        sample.kind,  # type: ignore[arg-type]
        sample.level,
    )
    return Benchmark(sample.set, (prompt,), "run")


def spread(total: int, count: int) -> list[int]:
    """``count`` evenly spread positions of ``total``."""
    taken = min(total, count)
    return [number * total // taken for number in range(taken)]


def _rendering(run: RunRecord, tokenizer: Any) -> Rendering:
    own = run.config.rendering
    try:
        rendering = Rendering.from_dict(own.to_dict())
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{run.directory}: its rendering cannot be read") from None
    if own.reference_sha256 != reference_hash(tokenizer, rendering):
        raise InputError(
            f"{run.directory}: this tokenizer renders prompts differently from the "
            "run's; use the run's revision of the model"
        )
    return rendering


def _gauge(
    run: RunRecord, arms: Sequence[RunArm], circuits: dict[str, Circuit]
) -> Circuit | None:
    """The circuit that the run's prompts were gauged along."""
    if not run.config.gauge:
        return None
    names = [arm.circuit for arm in arms if arm.circuit]
    return next((circuits[name] for name in names if can_gauge(circuits[name])), None)
