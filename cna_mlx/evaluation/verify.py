"""A few samples of a run generated again, here: how many come out the same."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.evaluation.arms import arm_of, load_direction
from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.evaluation.runner import Evaluation
from cna_mlx.evaluation.runs import Run
from cna_mlx.evaluation.samples import Sample
from cna_mlx.models.families import widths
from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt
from cna_mlx.prompts.chat_template import Rendering, reference_hash
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.steering.sequences import shared_length


@dataclass(frozen=True)
class Repeated:
    """One sample, as it was and as it came out here.

    Attributes:
        old, new: the two samples.
    """

    old: Sample
    new: Sample

    @property
    def is_same(self) -> bool:
        """Whether every token is the same."""
        return self.old.token_ids == self.new.token_ids

    @property
    def has_same_label(self) -> bool:
        """Whether the new text has the label that the old one has by this version."""
        return self.old.relabelled().label is self.new.label

    @property
    def parts_at(self) -> int | None:
        """The first token that differs, from 0; None if none does."""
        if self.is_same:
            return None
        return shared_length(self.old.token_ids, self.new.token_ids)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data, without the texts."""
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


def verify(
    run: Run,
    model: Any,
    tokenizer: Any,
    *,
    count: int,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[list[Repeated]]:
    """Answer a few prompts of a run again, in the batches that they were answered in.

    Args:
        run: as :meth:`Run.load` returns it.
        model, tokenizer: the run's model, as :func:`cna_mlx.load` returns them.
        count: how many prompts, spread evenly over those that were answered.
        stop: asked before each token.

    Yields:
        For each prompt its samples, one for each arm.

    Raises:
        InputError: the run has no samples, or cannot be repeated as it was; the
            direction of its CAA is damaged.
        CircuitError: a circuit of the run is missing, or does not fit the model.
    """
    samples = run.samples()
    arms = run.arms
    if not samples:
        raise InputError(f"{run.directory}: no prompt was answered yet")
    rendering = _rendering(run, tokenizer)
    circuits = run.circuits
    sizes = widths(model)
    for circuit in circuits.values():
        circuit.check_shape(sizes)
    has_caa = any(arm.role == "caa" for arm in arms)
    direction = load_direction(run.directory) if has_caa else None
    steering = [arm_of(arm, circuits, direction) for arm in arms]
    total = len(samples) // len(arms)
    for number in spread(total, count):
        batch = samples[number * len(arms) : (number + 1) * len(arms)]
        evaluation = Evaluation(
            model,
            tokenizer,
            [_as_set(batch[0])],
            steering,
            rendering,
            run.config.max_tokens or 0,
            0,  # labels and tokens are compared
            _gauge(run, arms, circuits),
        )
        found = evaluation.batch(0, stop)
        if found is None:
            return
        pairs = zip(batch, found, strict=True)
        yield [Repeated(old, new) for old, new in pairs]


def spread(total: int, count: int) -> list[int]:
    """``count`` positions of ``total``, as evenly apart as they can be."""
    taken = min(total, count)
    return [number * total // taken for number in range(taken)]


def _rendering(run: Run, tokenizer: Any) -> Rendering:
    own = run.config.rendering
    try:
        rendering = Rendering.from_json(own.to_json())
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{run.directory}: its rendering cannot be read") from None
    if own.reference_sha256 != reference_hash(tokenizer, rendering):
        raise InputError(
            f"{run.directory}: this tokenizer renders prompts in another way than the "
            "run's did; take the run's revision of the model"
        )
    return rendering


def _as_set(sample: Sample) -> Benchmark:
    prompt = EvalPrompt(sample.id, sample.prompt, sample.category, sample.kind)  # type: ignore[arg-type]
    return Benchmark(sample.set, (prompt,), "run")


def _gauge(
    run: Run, arms: Sequence[RunArm], circuits: dict[str, Circuit]
) -> Circuit | None:
    """The circuit that the run's prompts were gauged along."""
    if not run.config.gauge:
        return None
    names = [arm.circuit for arm in arms if arm.circuit]
    return next((circuits[name] for name in names if can_gauge(circuits[name])), None)
