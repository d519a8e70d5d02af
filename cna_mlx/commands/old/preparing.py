"""What an evaluation is made of, from what was typed: prompts, circuit, arms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cna_mlx.analysis.paper import shape_of
from cna_mlx.circuit import Circuit
from cna_mlx.commands.old.options import SelectionOptions
from cna_mlx.commands.old.shared import Session, check_circuit_files
from cna_mlx.discovery.defaults import defaults_for
from cna_mlx.discovery.discover import model_entry, rendering_entry
from cna_mlx.errors import InputError
from cna_mlx.evaluation.arms import (
    SEEDS,
    SWEEP_ALPHAS,
    SWEEP_MULTIPLIERS,
    Paired,
    Reference,
    evaluation_arms,
    reference,
)
from cna_mlx.evaluation.contamination import discovery_prompts, near_duplicates
from cna_mlx.evaluation.journal import check_place
from cna_mlx.evaluation.kl import KL_TOKENS
from cna_mlx.evaluation.run_config import (
    CONTROLS,
    CircuitEntry,
    DiscoveryEntry,
    EnvironmentEntry,
    RunArm,
    RunConfig,
    RunFacts,
    SetEntry,
    circuit_sha256,
)
from cna_mlx.evaluation.runner import Evaluation
from cna_mlx.evaluation.runs import default_directory, runs_directory
from cna_mlx.models.families import widths
from cna_mlx.models.loading import source_of
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.benchmarks import Benchmark, load_benchmark
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.steering.interventions import MeanDifference, check_multiplier
from cna_mlx.ui.console import screen
from cna_mlx.ui.progress import download_bar
from cna_mlx.util.environment import environment
from cna_mlx.util.files import typed_path
from cna_mlx.util.formatting import counted


@dataclass(frozen=True)
class EvalOptions:
    """What is evaluated, as typed.

    Attributes:
        circuits: ``FILE[@M]``; the first is what the controls control for.
        prompts: names or files of prompt sets.
        multipliers, alphas: strengths of the circuit and of CAA.
        seeds: controls of each kind.
        limit: prompts of each set, or None for all.
        max_tokens: new tokens for each answer.
        has_kl: whether the KL is computed.
        sweep: add the preset of strengths.
        out: the run's directory, or None.
    """

    circuits: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    multipliers: tuple[float, ...] = ()
    alphas: tuple[float, ...] = ()
    seeds: int = SEEDS
    limit: int | None = None
    max_tokens: int = 150
    has_kl: bool = True
    sweep: bool = False
    out: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A run that can begin: what is answered, its configuration, and facts of it."""

    evaluation: Evaluation
    directory: Path
    config: RunConfig
    circuits: dict[str, Circuit]
    facts: RunFacts
    direction: MeanDifference | None = None


def load_sets(model: str, options: EvalOptions, offline: bool) -> list[Benchmark]:
    """The prompt sets, cut to the limit; fetched where they are not here.

    What else can be seen to be wrong before a model is loaded, is said here too.

    Raises:
        CircuitError: a circuit file that cannot be read.
        InputError: a file or a value that cannot be used, the same set twice.
        HubError, ModelError: a set cannot be fetched.
    """
    check_circuit_files(options.circuits)
    for value in (*options.multipliers, *options.alphas):
        check_multiplier(value)
    names = options.prompts or defaults_for(model).prompts
    with download_bar() as progress:
        found = [
            load_benchmark(name, offline=offline, progress=progress) for name in names
        ]
    for number, one in enumerate(found):
        if any(one.sha256 == other.sha256 for other in found[:number]):
            raise InputError(f"{one.name}: the same prompt set was asked for twice")
    return [one.limited(options.limit) for one in _named_apart(found)]


def _named_apart(sets: Sequence[Benchmark]) -> list[Benchmark]:
    """The sets, each with a name of its own: files of two directories may share one."""
    taken: set[str] = set()
    named = []
    for one in sets:
        name, number = one.name, 1
        while name in taken:
            number += 1
            name = f"{one.name}-{number}"
        taken.add(name)
        named.append(replace(one, name=name))
    return named


def check_out(options: EvalOptions, *parts: str) -> None:
    """See that the runs can lie where they were told to, before a model is loaded.

    Args:
        options: ``out`` may be None: then it is a directory of its own.
        parts: the directories below it, where the command makes several runs.

    Raises:
        InputError: something else lies there, or nothing can be written.
    """
    if options.out is None:
        check_place(runs_directory() / "another")
        return
    place = typed_path(options.out, "--out")
    for part in parts or ("",):
        check_place(place / part)


def prepare(
    session: Session,
    selection: SelectionOptions,
    options: EvalOptions,
    sets: Sequence[Benchmark],
    command: str,
    *,
    found: tuple[Circuit, PromptSet | None] | None = None,
    other: tuple[str, Circuit] | None = None,
    controls: Sequence[str] = CONTROLS,
) -> Prepared:
    """Find the circuit, make the arms, and say what will be done.

    Args:
        session, selection, options, sets: what is evaluated.
        command: whose run it is.
        found: the circuit and its contrast, where they are known already.
        other: another model's circuit with the label of its arm, to be tried at 0.
        controls: the kinds of control.

    Raises:
        CircuitError, InputError: a circuit or a value that cannot be used.
    """
    if found is None:
        circuit, contrast, own = chosen_circuit(session, selection, options)
    else:
        (circuit, contrast), own = found, None
    sizes = widths(session.model)
    made_by = _reference(session, contrast, options)
    strengths = list(options.multipliers) or [0.0]
    alphas = list(options.alphas)
    if own is not None:
        strengths = [own, *(m for m in options.multipliers if m != own)]
    if options.sweep:
        strengths += [m for m in SWEEP_MULTIPLIERS if m not in strengths]
        alphas += [a for a in SWEEP_ALPHAS if a not in alphas]
    pairs, circuits = evaluation_arms(
        circuit,
        sizes,
        made_by,
        multipliers=strengths,
        alphas=alphas,
        seeds=options.seeds,
        kinds=controls,
    )
    pairs += _other_arms(session, options, circuits)
    if other is not None:
        label, circuits["other"] = other
        entry = RunArm(label, "other", 0.0, None, "other")
        pairs.append((entry, Arm.of(circuits["other"], 0.0, label)))
    _check_labels([entry.label for entry, _ in pairs])
    gauge = circuit if can_gauge(circuit) else None
    evaluation = Evaluation(
        session.model,
        session.tokenizer,
        sets,
        [arm for _, arm in pairs],
        session.rendering,
        options.max_tokens,
        KL_TOKENS if options.has_kl else 0,
        gauge,
    )
    evaluation.check()
    config = _config(session, options, pairs, circuits, evaluation, contrast, command)
    known = contrast if contrast and _is_of(contrast, circuit) else None
    known = known or discovery_prompts(circuit)
    source = source_of(session.model)
    facts = RunFacts(
        contamination=_contamination(sets, known),
        environment=EnvironmentEntry.from_json(environment()),
        shape=shape_of(source.config) if source else None,
        discovery=DiscoveryEntry.of(circuit),
        stored=RunFacts.nulls("created", "versions", "resumed", "updated"),
    )
    directory = typed_path(options.out, "--out") if options.out else None
    return Prepared(
        evaluation,
        directory or default_directory(config),
        config,
        circuits,
        facts,
        made_by.direction if made_by and config.direction else None,
    )


def chosen_circuit(
    session: Session, selection: SelectionOptions, options: EvalOptions
) -> tuple[Circuit, PromptSet | None, float | None]:
    """The circuit, the prompts that it was made from if known, and its multiplier.

    Raises:
        CircuitError, InputError: a file or prompts that cannot be used.
    """
    if not options.circuits:
        default = selection.prompts(session.name)
        return session.default_circuit(selection), default, None
    circuit, own = session.load_circuit(options.circuits[0])
    given = any((selection.contrast, selection.positive, selection.negative))
    contrast = discovery_prompts(circuit)
    if given:
        contrast = selection.prompts(session.name)
    if given and contrast and not _is_of(contrast, circuit):
        screen().note(
            f"{options.circuits[0]} was made from other prompts than {contrast.name}: "
            "controls and CAA are made from the latter",
            style="yellow",
        )
    return circuit, contrast, own


def _check_labels(labels: Sequence[str]) -> None:
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(
                f"two arms would both be called {label!r}: leave out the circuit or "
                "the multiplier that was given twice"
            )


def _is_of(contrast: PromptSet, circuit: Circuit) -> bool:
    origin = circuit.provenance.contrast
    return origin is not None and origin.sha256 == contrast.sha256


def _reference(
    session: Session, contrast: PromptSet | None, options: EvalOptions
) -> Reference | None:
    if contrast is None:
        fallback: PromptSet = SelectionOptions().prompts(session.name)
        if options.alphas or options.sweep:
            raise InputError(
                "CAA needs the prompts that the circuit was made from: give them with "
                "--positive and --negative, or --contrast"
            )
        screen().note(
            "the prompts that the circuit was made from are not known: the matched "
            f"controls are matched on {fallback.name}'s {fallback.negative_label} ones"
        )
        contrast = fallback
    screen().note(f"reading {contrast.name} for the controls")
    return reference(session.model, session.tokenizer, contrast, session.rendering)


def _other_arms(
    session: Session, options: EvalOptions, circuits: dict[str, Circuit]
) -> list[Paired]:
    """Further circuits, each at its own multiplier or at all of -m."""
    pairs: list[Paired] = []
    loaded = [session.load_circuit(text) for text in options.circuits[1:]]
    stems = [Path(session.files[id(circuit)]).stem for circuit, _ in loaded]
    different = {circuit_sha256(circuit) for circuit, _ in loaded}
    for number, (circuit, own) in enumerate(loaded, 2):
        name = f"circuit-{number}"
        circuits[name] = circuit
        stem = stems[number - 2]
        if stems.count(stem) > 1 and len(different) > 1:
            stem = f"{stem} ({number})"  # files of two directories
        strengths = [own] if own is not None else list(options.multipliers) or [0.0]
        for m in strengths:
            label = f"{stem} m={m:.15g}"
            entry = RunArm(label, "other", m, None, name)
            pairs.append((entry, Arm.of(circuit, m, label)))
    return pairs


def _contamination(
    sets: Sequence[Benchmark], contrast: PromptSet | None
) -> dict[str, tuple[str, ...] | None]:
    """The ids of each set that equal or nearly equal a discovery prompt; says so."""
    found: dict[str, tuple[str, ...] | None] = {}
    for one in sets:
        if contrast is None:
            found[one.name] = None
            continue
        seen = [*contrast.positive, *contrast.negative]
        matches = near_duplicates([prompt.text for prompt in one.prompts], seen)
        pairs = zip(one.prompts, matches, strict=True)
        found[one.name] = tuple(prompt.id for prompt, match in pairs if match)
        if count := len(found[one.name] or ()):
            rest = "rates are given with and without them"
            if count == len(one.prompts):
                rest = "so they say nothing of prompts that it did not see"
            screen().note(
                f"{count} of {counted(len(one.prompts), 'prompt')} of {one.name} equal "
                f"or nearly equal one of {contrast.name}: {rest}",
                style="yellow",
            )
    if contrast is None:
        screen().note(
            "the circuit's own prompts are not known: nobody can say whether it saw "
            "these",
            style="yellow",
        )
    return found


def _config(
    session: Session,
    options: EvalOptions,
    pairs: Sequence[Paired],
    circuits: dict[str, Circuit],
    evaluation: Evaluation,
    contrast: PromptSet | None,
    command: str,
) -> RunConfig:
    has_caa = any(arm.role == "caa" for arm, _ in pairs)
    return RunConfig(
        command=command,
        model=model_entry(session.model, widths(session.model)),
        rendering=rendering_entry(session.tokenizer, session.rendering),
        circuits={name: CircuitEntry.of(one) for name, one in circuits.items()},
        direction=contrast.sha256 if has_caa and contrast else None,
        arms=tuple(arm for arm, _ in pairs),
        sets=tuple(SetEntry.from_json(one.to_json()) for one in evaluation.sets),
        limit=options.limit,
        max_tokens=evaluation.max_tokens,
        kl_tokens=evaluation.kl_tokens,
        sampling="greedy",
        rows=len(pairs),
        gauge=evaluation.gauge is not None,
    )
