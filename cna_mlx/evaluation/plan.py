"""Plan an evaluation: the circuit, its arms and controls, the prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.controls import stand_ins
from cna_mlx.discovery.discover import model_entry, rendering_entry
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.evaluation.arms import (
    SWEEP_ALPHAS,
    SWEEP_MULTIPLIERS,
    Paired,
    evaluation_arms,
    other_arms,
    transferred_arm,
)
from cna_mlx.evaluation.asked import Evaluation
from cna_mlx.evaluation.contamination import contamination
from cna_mlx.evaluation.journal import check_place
from cna_mlx.evaluation.kl import KL_TOKENS
from cna_mlx.evaluation.memory import short_of_memory
from cna_mlx.evaluation.options import ROWS, EvalOptions
from cna_mlx.evaluation.order import GROUPED
from cna_mlx.evaluation.run_config import (
    CONTROLS,
    RULES,
    CircuitEntry,
    EnvironmentEntry,
    Role,
    RunArm,
    RunConfig,
    RunFacts,
    SetEntry,
    main_arm,
)
from cna_mlx.evaluation.runs import (
    RUN,
    RunRecord,
    default_directory,
    has_run,
    list_runs,
    runs_directory,
)
from cna_mlx.evaluation.subject import Subject
from cna_mlx.evaluation.timing import WIDTHS, fastest
from cna_mlx.models.catalogue import shape_of
from cna_mlx.models.families import widths
from cna_mlx.models.loading import source_of
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.steering.decoding import text_of
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.steering.interventions import MeanDifference
from cna_mlx.strength import Strength
from cna_mlx.util.environment import environment
from cna_mlx.util.files import File, is_there, typed_path
from cna_mlx.util.progress import Reporter

#: The parts of its circuit's provenance that a run records.
_DISCOVERY = ("contrast", "held_out", "split_half", "expectation", "created", "search")
# Entries of a configuration that are absent from runs of version 0.1.
_SINCE_0_2 = ("order", "extend_to")


@dataclass(frozen=True)
class EvaluationPlan:
    """A run that is ready to start: the work, its configuration, and its facts."""

    evaluation: Evaluation
    directory: Path
    config: RunConfig
    circuits: dict[str, Circuit]
    facts: RunFacts
    direction: MeanDifference | None
    reporter: Reporter


def check_out(out: File | None, *parts: str) -> None:
    """Check that runs can be written to ``out``, or to each of its ``parts``.

    Raises:
        InputError: something else is there, or nothing can be written.
    """
    if out is None:
        check_place(runs_directory() / "another")
        return
    place = typed_path(out, "--out")
    for part in parts or ("",):
        check_place(place / part)


def plan_evaluation(
    session: Session,
    subject: Subject,
    sets: Sequence[Benchmark],
    options: EvalOptions,
    command: str,
    *,
    others: Sequence[ChosenCircuit] = (),
    transferred: tuple[str, Circuit] | None = None,
    controls: Sequence[Role] = CONTROLS,
    out: File | None = None,
) -> EvaluationPlan:
    """Make the arms and the configuration of a run of ``command``.

    Args:
        transferred: the label of an arm and another model's circuit.
        out: the run's directory; None for the default directory.

    Raises:
        CircuitError, InputError: a circuit or a value that cannot be used.
    """
    made_by = subject.reference(session, bool(options.alphas or options.sweep))

    def arms_of(is_of_version_0_1: bool) -> tuple[list[Paired], dict[str, Circuit]]:
        multipliers, alphas = _strengths(subject.chosen, options)
        pairs, circuits = evaluation_arms(
            subject.circuit,
            widths(session.model),
            made_by,
            multipliers=multipliers,
            alphas=alphas,
            seeds=options.seeds,
            kinds=controls,
            is_of_version_0_1=is_of_version_0_1,
        )
        pairs += other_arms(
            others,
            options.multipliers,
            circuits,
            is_of_version_0_1=is_of_version_0_1,
        )
        if transferred is not None:
            pairs.append(transferred_arm(*transferred))
            circuits["other"] = transferred[1]
        return pairs, circuits

    pairs, circuits = arms_of(is_of_version_0_1=False)
    _check_labels([entry.label for entry, _ in pairs])
    arms = [entry for entry, _ in pairs]
    evaluation = Evaluation(
        *session.load(),
        sets,
        [arm for _, arm in pairs],
        session.rendering,
        options.max_tokens,
        KL_TOKENS if options.has_kl else 0,
        subject.circuit if can_gauge(subject.circuit) else None,
        GROUPED,
        options.extend_to if options.extend_to > options.max_tokens else 0,
        arms.index(main) if (main := main_arm(arms)) else None,
        subject.openings(session),
        ROWS if options.batch == "auto" else options.batch,
    )
    evaluation.check()
    config_of = partial(_config, session, subject, options, arms, circuits, command)
    if options.batch == "auto":
        rows = _begun(config_of, evaluation, out)
        if rows is None:
            with session.reporter.progress("widths") as progress:
                rows = fastest(evaluation, progress)
        evaluation = replace(evaluation, rows=rows)
    if text := short_of_memory(evaluation):
        session.reporter.warn(text)
    config = config_of(evaluation)
    plan = EvaluationPlan(
        evaluation,
        typed_path(out, "--out") if out else default_directory(config),
        config,
        circuits,
        _facts(session, subject, evaluation, circuits),
        made_by.direction if config.direction else None,
        session.reporter,
    )
    if not _are_of_version_0_1(out):
        return plan
    return _of_version_0_1(plan, out, *arms_of(is_of_version_0_1=True)) or plan


def _begun(
    config_of: Callable[[Evaluation], RunConfig],
    evaluation: Evaluation,
    out: File | None,
) -> int | None:
    """The rows of the run that goes on as it began; None for a new run."""
    if out is not None:
        place = typed_path(out, "--out")
        return RunRecord.load(place).config.rows if is_there(place / RUN) else None
    for rows in WIDTHS:
        config = config_of(replace(evaluation, rows=rows))
        if has_run(default_directory(config), config):
            return rows
    return None


def _are_of_version_0_1(out: File | None) -> bool:
    """Whether version 0.1 began the run in ``out``, or any in the default directory."""
    if out is None:
        runs = list_runs()
    else:
        place = typed_path(out)
        runs = [RunRecord.load(place)] if is_there(place / RUN) else []
    return any(run.config.order is None for run in runs)


def _of_version_0_1(
    plan: EvaluationPlan,
    out: File | None,
    pairs: Sequence[Paired],
    circuits: dict[str, Circuit],
) -> EvaluationPlan | None:
    """The plan as version 0.1 made it, where that version began the run."""
    config = replace(
        plan.config,
        order=None,
        extend_to=None,
        arms=tuple(entry for entry, _ in pairs),
        circuits={name: CircuitEntry.of(one) for name, one in circuits.items()},
        rows=len(pairs),
    )
    directory = plan.directory if out else default_directory(config)
    if not has_run(directory, config):
        return None
    plan.reporter.note(
        f"{directory} is of version 0.1 and goes on as it began; give another --out "
        "for a new run"
    )
    evaluation = replace(
        plan.evaluation,
        arms=[arm for _, arm in pairs],
        order=None,
        extend_to=0,
        main=None,
        openings=(),
        rows=0,
    )
    return replace(
        plan,
        evaluation=evaluation,
        config=config,
        circuits=circuits,
        directory=directory,
        facts=replace(plan.facts, stand_ins=None),
    )


def _strengths(
    chosen: ChosenCircuit, options: EvalOptions
) -> tuple[list[Strength], list[float]]:
    """The multipliers of the circuit and the strengths of CAA."""
    multipliers = chosen.multipliers(options.multipliers)
    multipliers += [m for m in options.multipliers if m not in multipliers]
    alphas = list(options.alphas)
    if options.sweep:
        # an ablated arm would take the verdict from the strength of the file
        own = chosen.circuit.intervention
        is_own = isinstance(own, float) and own != 0 and multipliers[0] == own
        swept = [m for m in SWEEP_MULTIPLIERS if m or not is_own]
        multipliers += [m for m in swept if m not in multipliers]
        alphas += [a for a in SWEEP_ALPHAS if a not in alphas]
    return multipliers, alphas


def _check_labels(labels: Sequence[str]) -> None:
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(
                f"two arms have the label {label!r}: leave out the circuit or the "
                "multiplier that is given twice"
            )


def _config(
    session: Session,
    subject: Subject,
    options: EvalOptions,
    arms: Sequence[RunArm],
    circuits: dict[str, Circuit],
    command: str,
    evaluation: Evaluation,
) -> RunConfig:
    has_caa = any(arm.role == "caa" for arm in arms)
    contrast = subject.contrast
    return RunConfig(
        command=command,
        model=model_entry(session.model, widths(session.model)),
        rendering=rendering_entry(session.tokenizer, session.rendering),
        circuits={name: CircuitEntry.of(one) for name, one in circuits.items()},
        direction=contrast.sha256 if has_caa and contrast else None,
        arms=tuple(arms),
        sets=tuple(SetEntry.from_dict(one.to_dict()) for one in evaluation.sets),
        limit=options.limit,
        max_tokens=evaluation.max_tokens,
        kl_tokens=evaluation.kl_tokens,
        sampling="greedy",
        rows=evaluation.rows,
        gauge=evaluation.gauge is not None,
        order=evaluation.order,
        extend_to=evaluation.extend_to,
        stored=RunConfig.nulls(*_SINCE_0_2),
    )


def _facts(
    session: Session,
    subject: Subject,
    evaluation: Evaluation,
    circuits: Mapping[str, Circuit],
) -> RunFacts:
    matched = [one for name, one in circuits.items() if name.startswith("matched-")]
    sets, openings = evaluation.sets, evaluation.openings
    source = source_of(session.model)
    return RunFacts(
        contamination=contamination(sets, subject.seen, session.reporter),
        environment=EnvironmentEntry.from_dict(environment()),
        shape=shape_of(source.config) if source else None,
        discovery=subject.circuit.provenance.only(*_DISCOVERY),
        rules=RULES,
        openings={text_of(session.tokenizer, ids): ids for ids in openings},
        stand_ins=stand_ins(subject.circuit, matched) if matched else None,
        stored=RunFacts.nulls("created", "versions", "resumed", "updated"),
    )
