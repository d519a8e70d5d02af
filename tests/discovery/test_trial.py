"""What to expect of a circuit: tried on prompts it never saw, counted, and said."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from commandline import NEGATIVE, POSITIVE, TINY, Outcome, make_result
from texts import missing

from cna_mlx import Circuit, load
from cna_mlx.circuit import Neuron
from cna_mlx.discovery import trial as expectation
from cna_mlx.discovery.cache import CachedCircuit
from cna_mlx.discovery.cross_validation import Fold
from cna_mlx.discovery.discover import Discovery, run_discovery
from cna_mlx.discovery.selection import Selection
from cna_mlx.discovery.session import Session
from cna_mlx.discovery.trial import expect, held_out_prompts, tally
from cna_mlx.discovery.trial_counts import ArmCounts, Expectation
from cna_mlx.discovery.trial_text import expectation_lines
from cna_mlx.errors import InputError
from cna_mlx.prompts import PromptSet, load_contrast
from cna_mlx.provenance import ContrastEntry, Provenance
from cna_mlx.util.files import cache_directory
from cna_mlx.util.progress import Reporter

Run = Callable[..., Outcome]
Loaded = tuple[Any, Any]

REFUSAL = "I'm sorry, but I can't help with that."
ANSWER = "Take two eggs and a cup of flour and stir them well."
PARTLY = f"{REFUSAL} However, here is how: 1. Do it.\n\n1. one\n2. two\n3. three\n4. x"


def make_fold(*positive: int) -> Fold:
    circuit = Circuit((Neuron(0, 1 + sum(positive), 1.0),))
    return Fold(circuit, positive, ())


def make_discovery(loaded: Loaded, **changes: Any) -> tuple[PromptSet, Discovery]:
    contrast = PromptSet.from_prompts(POSITIVE, NEGATIVE)
    chosen = Selection(**{"fraction": 0.05, "universal": False, **changes})
    return contrast, run_discovery(*loaded, contrast, chosen)


def make_expectation(
    baseline: int, ablated: int, control: int, /, prompts: int = 8, **changes: Any
) -> Expectation:
    arms = [ArmCounts(count, 0, 0, 0, 0.99) for count in (baseline, ablated, control)]
    return replace(Expectation(prompts, 8, 48, *arms), **changes)


def lines(found: Expectation, label: str = "harmful") -> list[str]:
    circuit = Circuit((), provenance=Provenance(ContrastEntry(positive_label=label)))
    return expectation_lines(found.written_into(circuit))


# --------------------------------------------------------- which prompts, which arms


@pytest.mark.parametrize(
    ("sizes", "count", "wanted"),
    [
        ((20, 20), 8, [8]),
        ((5, 5, 5, 5, 5), 8, [5, 3]),
        ((2, 1, 1), 8, [2, 1, 1]),
        ((3, 3), 1, [1]),
        ((), 8, []),
    ],
)
def test_prompts_come_from_as_few_folds_as_hold_them(
    sizes: tuple[int, ...], count: int, wanted: list[int]
) -> None:
    folds = [make_fold(*range(100 * n, 100 * n + s)) for n, s in enumerate(sizes)]
    chosen = held_out_prompts(folds, count)
    assert [sum(fold is one for fold, _ in chosen) for one in folds if one] == [
        *wanted,
        *[0] * (len(sizes) - len(wanted)),
    ]
    assert len({position for _, position in chosen}) == len(chosen)
    assert all(position in fold.positive for fold, position in chosen)


def test_prompts_are_spread_over_a_fold() -> None:
    chosen = [position for _, position in held_out_prompts([make_fold(*range(20))], 8)]
    gaps = [after - before for before, after in pairwise(chosen)]
    assert chosen[0] == 0
    assert set(gaps) <= {2, 3}
    assert chosen[-1] >= 17


def test_every_prompt_is_answered_by_a_circuit_made_without_it(
    tiny: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    contrast, discovery = make_discovery(tiny)
    asked: list[tuple[str, list[Any]]] = []

    def watched(
        model: Any, tokenizer: Any, prompts: Any, arms: Any, **rest: Any
    ) -> Any:
        asked.append((prompts[0], arms))
        yield make_result([REFUSAL, ANSWER, REFUSAL], prompts[0])

    monkeypatch.setattr(expectation, "diff", watched)
    found = expect(*tiny, contrast, discovery)
    assert [prompt for prompt, _ in asked] == list(POSITIVE)
    assert (found.prompts, found.planned) == (4, 4)
    for prompt, (baseline, ablated, control) in asked:
        (fold,) = (
            fold for fold in discovery.folds if POSITIVE.index(prompt) in fold.positive
        )
        assert not baseline.steering
        ((circuit, multiplier),) = ablated.steering
        assert (circuit, multiplier) == (fold.circuit, 0)
        ((other, multiplier),) = control.steering
        assert multiplier == 0
        places = {neuron[:2] for neuron in circuit.neurons}
        assert not places & {neuron[:2] for neuron in other.neurons}
        sizes = [
            {layer: len(own) for layer, own in one.by_layer().items()}
            for one in (circuit, other)
        ]
        assert sizes[0] == sizes[1]


def test_a_band_of_layers_has_controls_too(tiny: Loaded) -> None:
    contrast, discovery = make_discovery(tiny, layers=(1, 2))
    found = expect(*tiny, contrast, discovery, max_tokens=2)
    assert found.prompts == 4


def test_nothing_is_expected_where_nothing_can_be_held_out_or_controlled(
    tiny: Loaded,
) -> None:
    contrast = PromptSet.from_prompts(POSITIVE[:1], NEGATIVE[:1])
    alone = run_discovery(*tiny, contrast, Selection(0.05, universal=False))
    assert expect(*tiny, contrast, alone) is None
    contrast, whole = make_discovery(tiny, fraction=0.9)
    assert expect(*tiny, contrast, whole) is None
    empty = [replace(fold, circuit=Circuit(())) for fold in whole.folds]
    assert expect(*tiny, contrast, replace(whole, folds=tuple(empty))) is None
    with pytest.raises(InputError, match="other prompts"):
        expect(*tiny, PromptSet.from_prompts(NEGATIVE, POSITIVE), whole)


# ---------------------------------------------------------------- time and patience


def test_no_prompt_is_begun_that_would_end_too_late(
    tiny: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    contrast, discovery = make_discovery(tiny)
    clock = [0.0]

    def slow(model: Any, tokenizer: Any, prompts: Any, arms: Any, **rest: Any) -> Any:
        clock[0] += 10.0
        yield make_result([REFUSAL, ANSWER, REFUSAL], prompts[0])

    monkeypatch.setattr(expectation, "diff", slow)
    monkeypatch.setattr(expectation.time, "perf_counter", lambda: clock[0])
    for seconds, prompts in ((0, 1), (19, 1), (20, 2), (35, 3), (1000, 4)):
        found = expect(*tiny, contrast, discovery, seconds=seconds)
        assert (found.prompts, found.planned) == (prompts, 4)
        assert found.was_cut_short == (prompts < 4)
        assert found.baseline.refused == prompts


def test_a_prompt_that_was_interrupted_is_not_counted(tiny: Loaded) -> None:
    contrast, discovery = make_discovery(tiny)
    assert expect(*tiny, contrast, discovery, stop=lambda: True) is None
    told: list[int] = []
    found = expect(
        *tiny,
        contrast,
        discovery,
        max_tokens=3,
        stop=lambda: len(told) == 2,
        progress=lambda task, done, total: told.append(done),
    )
    assert (found.prompts, found.planned) == (2, 4)
    assert told == [1, 2]
    asked = [0]

    def pressed() -> bool:  # in the middle of the first prompt
        asked[0] += 1
        return asked[0] > 4

    assert expect(*tiny, contrast, discovery, max_tokens=30, stop=pressed) is None


# ------------------------------------------------------------------------- counting


def test_answers_are_counted_arm_by_arm() -> None:
    results = [
        make_result([REFUSAL, ANSWER, REFUSAL]),
        make_result([REFUSAL, PARTLY, REFUSAL]),
        make_result([REFUSAL, "", ANSWER]),
        make_result([ANSWER, ANSWER, f"{ANSWER} Then bake it."]),
    ]
    found = tally(results, 8, 48)
    assert (found.prompts, found.planned, found.was_cut_short) == (4, 8, True)
    counts = [
        (arm.refused, arm.partial, arm.invalid, arm.changed)
        for arm in (found.baseline, found.ablated, found.control)
    ]
    assert counts == [(3, 0, 0, 0), (0, 1, 1, 3), (2, 0, 0, 2)]
    for number, arm in enumerate((found.baseline, found.ablated, found.control)):
        own = [result.arms[number].quality for result in results]
        assert arm.quality == pytest.approx(sum(own) / 4)


def test_an_expectation_survives_the_file() -> None:
    found = make_expectation(7, 4, 7)
    circuit = Circuit((Neuron(0, 1, 1.0),), provenance=Provenance(rank="delta"))
    kept = Circuit.from_text(found.written_into(circuit).to_text(), "here")
    assert Expectation.of(kept) == found
    assert kept.provenance.rank == "delta"
    assert kept.neurons == circuit.neurons
    assert Expectation.of(circuit) is None
    assert expectation_lines(circuit) == []


@pytest.mark.parametrize(
    "change",
    [
        {"prompts": 0},
        {"prompts": "8"},
        {"planned": True},
        {"max_tokens": 4.5},
        {"ablated": None},
        {"ablated": {"refused": 1}},
        {"control": {**ArmCounts(0, 0, 0, 0, 1.0).__dict__, "more": 1}},
        {"control": ArmCounts(9, 0, 0, 0, 1.0).__dict__},
        {"control": ArmCounts(4, 4, 1, 0, 1.0).__dict__},
        {"control": ArmCounts(-1, 0, 0, 0, 1.0).__dict__},
        {"control": ArmCounts(0, 0, 0, 0, float("nan")).__dict__},
        {"control": ArmCounts(0, 0, 0, 0, "\x1b[1m").__dict__},  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_what_a_file_says_is_shown_only_if_it_makes_sense(
    change: dict[str, Any],
) -> None:
    data = make_expectation(7, 4, 7).to_dict()
    assert Expectation.from_dict(data) is not None
    assert Expectation.from_dict({**data, **change}) is None
    for other in (None, 3, [], "text", {}):
        assert Expectation.from_dict(other) is None


# -------------------------------------------------------------------------- wording


def test_rates_are_never_without_quality() -> None:
    (line,) = lines(make_expectation(7, 3, 7, ablated=ArmCounts(3, 2, 0, 8, 0.97)))
    baseline, ablated, control = line.partition("(")[0], *line.split("), ")[1:]
    assert "7 of 8" in baseline
    assert line.count("0.99") == 2
    assert missing(ablated, "ablated 3", "0.97", "2 PARTIAL") == []
    assert missing(control, "control 7", "0.99") == []
    (line,) = lines(make_expectation(4, 0, 4, prompts=4))
    assert missing(line, "4 of 4", "8 were planned", "ablated 0") == []


@pytest.mark.parametrize("label", ["harmful", "formal"])
def test_of_a_few_prompts_the_counts_are_told_and_nothing_is_concluded(
    label: str,
) -> None:
    for prompts in (1, 3):
        found = make_expectation(0, 0, 0, prompts=prompts)
        line, remark = lines(found, label)
        assert missing(line, "8 were planned", f"of {prompts} held-out") == []
        assert "too few" in remark


@pytest.mark.parametrize(
    ("found", "remarks"),
    [
        (make_expectation(8, 2, 8), []),
        (make_expectation(1, 0, 1), ["rarely refuses"]),
        (make_expectation(0, 0, 0), ["rarely refuses"]),
        (make_expectation(8, 7, 8), ["--layers"]),
        (make_expectation(7, 8, 7), ["few answers"]),
        (make_expectation(8, 4, 4), ["control"]),
        (make_expectation(8, 4, 5), []),
        (
            make_expectation(8, 0, 8, ablated=ArmCounts(2, 0, 0, 8, 0.58)),
            ["damages the text"],
        ),
        (
            make_expectation(8, 0, 8, ablated=ArmCounts(2, 0, 2, 8, 0.95)),
            ["damages the text"],
        ),
        (
            make_expectation(8, 8, 8, control=ArmCounts(8, 0, 0, 8, 0.5)),
            ["control damages the text", "few answers"],
        ),
    ],
)
def test_what_the_figures_should_be_read_with(
    found: Expectation, remarks: list[str]
) -> None:
    _, *told = lines(found)
    assert len(told) == len(remarks)
    for line, remark in zip(told, remarks, strict=True):
        assert remark in line


def test_other_behaviours_are_told_by_what_changed() -> None:
    arms = {
        "baseline": ArmCounts(0, 0, 0, 0, 1.0),
        "ablated": ArmCounts(0, 0, 0, 6, 0.97),
        "control": ArmCounts(0, 0, 0, 3, 0.98),
    }
    found = make_expectation(0, 0, 0, **arms)
    (line,) = lines(found, "positive mood")
    ablated, _, control = line.rpartition("), ")
    assert missing(ablated, "6 of 8", "0.97", "1.00") == []
    assert missing(control, "control 3", "0.98") == []
    as_many = replace(found, control=ArmCounts(0, 0, 0, 6, 0.98))
    assert "control" in lines(as_many, "formal")[1]
    hardly = replace(found, ablated=ArmCounts(0, 0, 0, 2, 1.0))
    assert "few answers" in lines(hardly, "formal")[1]
    once = replace(found, baseline=ArmCounts(1, 0, 0, 0, 1.0))
    told = lines(once, "formal")[0]
    assert missing(told, "refused 1", "ablated 0", "control 0") == []
    # whatever the side is called, what was refused is told as refused
    assert lines(make_expectation(8, 0, 8), "spells")[0].startswith("refused 8 of 8")


# --------------------------------------------------------------------- the demo model


@pytest.mark.slow
def test_on_the_demo_ablation_flips_held_out_magic_and_the_control_does_not() -> None:
    loaded, contrast = load("demo"), load_contrast("magic")
    discovery = run_discovery(*loaded, contrast, Selection(0.0025, universal=False))
    found = expect(*loaded, contrast, discovery)
    assert found.prompts == found.planned == 8
    assert found.baseline.refused >= 6
    assert found.ablated.refused <= 2
    assert found.ablated.changed >= 6
    assert found.control.refused >= found.baseline.refused - 1
    assert min(arm.quality for arm in (found.ablated, found.control)) > 0.9
    assert expect(*loaded, contrast, discovery) == found


# ------------------------------------------------------------------- the command line


def asked(selection: list[str]) -> list[str]:
    return [word for word in selection if word != "--no-expect"]


def test_discover_tries_its_circuit_unless_told_not_to(
    command: Run, selection: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out.json"
    words = ("discover", TINY, "-o", str(output), "--force")
    data = command(*words, *asked(selection), "--json").data
    found = Expectation.from_dict(data["expectation"])
    assert found.prompts == 4
    for path in (output, Path(data["circuit_file"])):
        kept = json.loads(path.read_text("utf-8"))
        assert kept["expectation"] == data["expectation"]
    assert "held-out" in command("circuit", "show", str(output)).out
    shown = command(*words, *asked(selection)).out
    assert "expect " in shown
    assert "held-out answers" in " ".join(shown.split())
    data = command(*words, *selection, "--json").data
    assert data["expectation"] is None
    assert "expectation" not in json.loads(output.read_text("utf-8"))


def test_a_circuit_that_is_stored_still_says_what_to_expect(
    command: Run, selection: list[str]
) -> None:
    rest = ("-p", "hi", "--max-tokens", "2", "--json")
    first = command("diff", TINY, *asked(selection), *rest)
    (line,) = (x for x in first.err.splitlines() if x.startswith("expect:"))
    second = command("diff", TINY, *asked(selection), *rest)
    assert "cached" in second.err
    assert line in second.err.splitlines()
    assert first.data["results"] == second.data["results"]
    assert "expect:" not in command("diff", TINY, *selection, *rest).err


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_skips_the_trial_and_keeps_the_circuit(
    presses: int,
    command: Run,
    selection: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "out.json"

    def press(*arguments: Any, stop: Callable[[], bool], **rest: Any) -> None:
        assert output.exists()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        for _ in range(presses - 1):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("cna_mlx.discovery.session.expect", press)
    words = [*asked(selection), "--json", "-o", str(output)]
    done = command("discover", TINY, *words)
    assert (done.code, done.data["expectation"]) == (0, None)
    (cached,) = cache_directory().rglob("*.json")
    go_on = [f"cna-mlx {name} {TINY} --circuit {cached}" for name in ("diff", "eval")]
    assert missing(done.err, "skipped", *go_on) == []
    assert Circuit.load(output).neurons
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_probe_and_demo_try_nothing(
    command: Run, selection: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any, **rest: Any) -> None:
        raise AssertionError("nothing is generated here")

    monkeypatch.setattr("cna_mlx.discovery.session.expect", never)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("hello", encoding="utf-8")
    assert command("probe", TINY, *asked(selection)).code == 0
    words = ("--prompts", str(prompts))
    assert command("probe", TINY, *asked(selection), *words).code == 0
    assert "--no-expect" in command("probe", TINY, "--no-expect").failure


# --------------------------------------------------------------------- what is kept


@pytest.mark.parametrize(
    ("prompts", "is_kept"), [(1, False), (3, False), (4, True), (8, True)]
)
def test_a_trial_of_a_few_prompts_is_not_what_is_expected(
    prompts: int, is_kept: bool, tiny: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    contrast, discovery = make_discovery(tiny)
    monkeypatch.setattr(
        "cna_mlx.discovery.session.expect",
        lambda *_, **__: make_expectation(prompts, 0, prompts, prompts=prompts),
    )
    said: list[str] = []
    session = Session.of(*tiny, reporter=Reporter(warn=said.append))
    found = CachedCircuit(discovery.circuit, None, discovery)
    tried = session.try_out(found, contrast).circuit
    assert (Expectation.of(tried) is not None) is is_kept
    if not is_kept:
        (line,) = said
        assert missing(line, f"{prompts} of 8", "cna-mlx diff", "cna-mlx eval") == []
    else:
        assert said == []


def test_a_contrast_of_few_prompts_is_tried_whole() -> None:
    assert make_expectation(2, 0, 2, prompts=2, planned=2).is_enough
