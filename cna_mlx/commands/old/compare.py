"""`compare`: two models, or two runs, with their circuits tried on each other."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from cna_mlx.analysis.compare import Comparison, compare_sides
from cna_mlx.analysis.compare_text import findings
from cna_mlx.analysis.compared_model import (
    ComparedModel,
    are_rendered_alike,
    have_same_shape,
    held_out,
)
from cna_mlx.circuit import Circuit
from cna_mlx.commands.old.evaluate import run_evaluation, tell_end
from cna_mlx.commands.old.options import (
    ModelOptions,
    RenderingOptions,
    SelectionOptions,
)
from cna_mlx.commands.old.preparing import (
    EvalOptions,
    check_out,
    chosen_circuit,
    load_sets,
    prepare,
)
from cna_mlx.commands.old.shared import Session, split_circuit
from cna_mlx.discovery.auc import Auc
from cna_mlx.discovery.defaults import defaults_for
from cna_mlx.discovery.discover import model_entry, rendering_entry
from cna_mlx.errors import InputError, TransferError
from cna_mlx.evaluation.runs import RUN, Run, find_run, runs_directory
from cna_mlx.models.families import widths
from cna_mlx.models.loading import DEMO_NAMES
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.ui.compare import comparison_view
from cna_mlx.ui.console import screen
from cna_mlx.ui.output import emit_json, show
from cna_mlx.util.files import is_there, typed_path

_LETTERS = ("a", "b")


def run_compare(
    names: tuple[str, str],
    source: ModelOptions,
    rendering: RenderingOptions,
    selection: SelectionOptions,
    options: EvalOptions,
    *,
    circuits: tuple[str | None, str | None],
    as_json: bool,
    given: Sequence[str] = (),
) -> bool:
    """Compare two models or two runs.

    Args:
        names: of models or of runs.
        source, rendering, selection, options: as for an evaluation; of models only.
        circuits: files to use in place of the default circuits.
        as_json: print JSON.
        given: the options that were typed and mean nothing for runs.

    Returns:
        Whether all was answered: Ctrl-C keeps what was finished.
    """
    first, second = map(_run_of, names)
    if first and second:
        if given:
            raise InputError(
                f"two runs are compared as they are: leave out {', '.join(given)}"
            )
        models = [str(run.config.model.id) for run in (first, second)]
        places = [str(first.directory), str(second.directory)]
        called = _called(models if models[0] != models[1] else places)
        a, b = (
            ComparedModel.of_run(first, called[0]),
            ComparedModel.of_run(second, called[1]),
        )
        found, is_whole = compare_sides(a, b), True
    elif first or second:
        model = names[1 if first else 0]
        raise InputError(
            f"{model} is no run, and the other one is: give two runs or two models"
        )
    else:
        _check_names(names)
        _check_agreement(names, selection, options, circuits)
        check_out(options, *_LETTERS)
        sets = load_sets(names[0], options, source.offline)
        pair = _Pair(names, source, rendering, selection, options, circuits, sets)
        found, is_whole = pair.compare()
    said = findings(found)
    if as_json:
        emit_json({**found.to_json(), "statements": list(said)})
    else:
        show(comparison_view(screen(), found, said))
    return is_whole


@dataclass(frozen=True)
class _Known:
    """A model once it was looked at: its circuit, and what that was made from."""

    side: ComparedModel
    contrast: PromptSet | None


@dataclass(frozen=True)
class _Pair:
    """Two models that are loaded in turn, never both at once."""

    names: tuple[str, str]
    source: ModelOptions
    rendering: RenderingOptions
    selection: SelectionOptions
    options: EvalOptions
    circuits: tuple[str | None, str | None]
    sets: list[Benchmark]

    def compare(self) -> tuple[Comparison, bool]:
        """Find A's circuit, then B's and B's answers, then A's answers.

        Returns:
            The comparison, and whether all was answered.
        """
        a = self._first_look()
        _forget()
        known, b = self._look_and_answer(a.side)
        _forget()
        if not _is_complete(b):
            return compare_sides(a.side, b), False
        side = self._answer(self._open(0), 0, a, known.side)
        _forget()
        return compare_sides(side, b), _is_complete(side)

    # a model is let go of when its method returns

    def _first_look(self) -> _Known:
        return self._look(self._open(0), 0)

    def _look_and_answer(self, other: ComparedModel) -> tuple[_Known, ComparedModel]:
        session = self._open(1)
        known = self._look(session, 1)
        return known, self._answer(session, 1, known, other)

    def _open(self, which: int) -> Session:
        return Session.open(self.names[which], self.rendering, source=self.source)

    def _look(self, session: Session, which: int) -> _Known:
        file = self.circuits[which]
        own = replace(self.options, circuits=(file,) if file else ())
        try:
            circuit, contrast, _ = chosen_circuit(session, self.selection, own)
        except TransferError:  # its remedy is none here: the comparison is the transfer
            assert file is not None
            path = split_circuit(file)[0]
            made_on = Circuit.load(path).model
            raise TransferError(
                f"{path}: the circuit was made on other weights ({made_on.id}, "
                f"{made_on.quantization}) than {session.name}; each model's own "
                "circuit is tried on the other one anyway: leave "
                f"--circuit-{_LETTERS[which]} out, or give a circuit of {session.name}"
            ) from None
        model = model_entry(session.model, widths(session.model))
        rendering = rendering_entry(session.tokenizer, session.rendering)
        measured = held_out(circuit, model, rendering)
        called = _called(self.names)[which]
        return _Known(
            ComparedModel(called, model, rendering, circuit, measured), contrast
        )

    def _answer(
        self, session: Session, which: int, known: _Known, other: ComparedModel
    ) -> ComparedModel:
        """The side with its answers, and its gauge with both rendered the same way."""
        side = known.side
        assert side.circuit is not None
        same = self._rendered_the_same_way(session, which, known, other)
        out = self.options.out and str(Path(self.options.out) / _LETTERS[which])
        prepared = prepare(
            session,
            self.selection,
            replace(self.options, out=out),
            self.sets,
            "compare",
            found=(side.circuit, known.contrast),
            other=self._transferred(which, side, other),
            controls=("matched",),
        )
        summary = run_evaluation(prepared)
        tell_end(summary)
        return replace(side, same=same, run=summary.run)

    def _transferred(
        self, which: int, side: ComparedModel, other: ComparedModel
    ) -> tuple[str, Circuit] | None:
        if other.circuit is None or not have_same_shape(side.model, other.model):
            screen().note(
                f"{other.name} has another shape: its circuit cannot be tried on "
                f"{side.name}",
                style="yellow",
            )
            return None
        return f"other ({_short(self.names[1 - which])})", other.circuit

    def _rendered_the_same_way(
        self, session: Session, which: int, known: _Known, other: ComparedModel
    ) -> Auc | None:
        """The held-out AUC with both models' prompts as the same text.

        Where both templates give the same ids that is the AUC which is known already.
        Else the prompts are plain text, as base models have no template.
        """
        side = known.side
        if are_rendered_alike(side.rendering, other.rendering):
            return side.own
        plain = replace(session.rendering, template="off")
        entry = rendering_entry(session.tokenizer, plain)
        if are_rendered_alike(entry, side.rendering):
            return side.own
        if self.circuits[which] or known.contrast is None:
            return None  # how a given circuit was chosen is not known
        screen().note(f"{side.name} has another template than {other.name}: plain text")
        as_text = replace(session, rendering=plain)
        found = as_text.find(self.selection, contrast=known.contrast)
        return held_out(found.circuit, side.model, entry)


def _forget() -> None:
    """Give a model's memory back before the next one is loaded."""
    gc.collect()
    mx.clear_cache()


def _is_complete(side: ComparedModel) -> bool:
    return side.run is not None and side.run.status == "complete"


# ------------------------------------------------------------------- what was asked for


def _run_of(name: str) -> Run | None:
    """The run of this name or directory; None if it names a model.

    Raises:
        InputError: it is a run that cannot be read.
    """
    if name in DEMO_NAMES:
        return None
    kept = runs_directory() / name
    try:
        path = typed_path(name)
        is_run = path.name == RUN or (path / RUN).exists()
        is_run = is_run or (not path.exists() and kept.is_dir())
    except (OSError, InputError):  # too long for a name, nobody's home
        return None
    return find_run(name) if is_run else None


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if "/" not in name and name not in DEMO_NAMES and not is_there(name):
            raise InputError(
                f"{name}: no such directory, no hub id (organisation/name) and no run "
                "(cna-mlx runs lists those there are)"
            )


def _check_agreement(
    names: tuple[str, str],
    selection: SelectionOptions,
    options: EvalOptions,
    circuits: tuple[str | None, str | None],
) -> None:
    """See that both models are asked for the same thing.

    Raises:
        CircuitError, InputError: a file that cannot be used; two contrasts, or defaults
            that differ.
    """
    own, other = map(defaults_for, names)
    files = [Circuit.load(split_circuit(file)[0]) for file in circuits if file]
    has_sides = selection.contrast or selection.positive
    typed = [has_sides, selection.fraction, options.prompts]
    if own != other and not (all(typed) or (len(files) == 2 and options.prompts)):
        raise InputError(
            f"{names[0]} and {names[1]} have different defaults: say --contrast, "
            "--fraction and --prompts"
        )
    if any(split_circuit(file)[1] not in (None, 0.0) for file in circuits if file):
        raise InputError("compare scales circuits by 0: leave the multiplier out")
    found = {
        str(entry.sha256): str(entry.name)
        for file in files
        if (entry := file.provenance.contrast)
    }
    if len(files) < 2:
        chosen = selection.prompts(names[0])
        found[chosen.sha256] = chosen.name
    if len(found) > 1:
        raise InputError(
            f"the circuits are of different contrasts ({' and '.join(found.values())}):"
            " give both of one"
        )


def _called(names: Sequence[str]) -> tuple[str, str]:
    """What to call two models or runs: their last words, where these differ."""
    short = [_short(name) for name in names]
    if short[0] != short[1]:
        return short[0], short[1]
    if names[0] != names[1]:
        return names[0], names[1]
    return f"{short[0]} (a)", f"{short[1]} (b)"


def _short(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2] or name
