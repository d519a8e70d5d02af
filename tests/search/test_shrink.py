"""A shrink: which part it finds, on which prompts, and how it is judged."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cna_mlx import Answer, Arm, DiscoveryOptions, Reporter, generate_arms, label
from cna_mlx.circuit import Circuit, Moments, Neuron
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.selection import Selection
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.labels.label import LabelKind
from cna_mlx.prompts import PromptSet, load_contrast
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.provenance import ContrastEntry, Provenance
from cna_mlx.search import judging, shrink
from cna_mlx.search.parts import groups, halvings, orders, unions
from cna_mlx.search.shrink import shrink_session
from cna_mlx.search.shrink_result import ShrinkResult
from cna_mlx.search.shrinking import Shrinking
from cna_mlx.search.trial import Trial
from cna_mlx.steering.arms import BASELINE
from cna_mlx.strength import MEAN

MAGIC = load_contrast("magic")
ODD, EVEN = MAGIC.half(0), MAGIC.half(1)
LOST = (LabelKind.ANSWERED, LabelKind.PARTIAL)

Rule = Callable[[int, frozenset[int]], bool]


# ----------------------------------------------------------------- the choice, by rules


def made(count: int) -> Circuit:
    return Circuit.from_neurons([(0, index, 1.0) for index in range(count)])


class RuleTrial(Trial):
    """Refusals that a part loses by a rule, in the place of a model's."""

    def __init__(self, rule: Rule, prompts: int) -> None:
        texts = [f"question {number}" for number in range(prompts)]
        harmful = Benchmark.from_prompts(texts)
        super().__init__(None, None, Rendering(), harmful, harmful)
        self.rule = rule
        self.batches = 0

    def ask(
        self,
        standings: Sequence[Any],
        at: int,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        self.batches += 1
        for one in standings:
            one.refusals += 1
            one.lost += self.rule(at, frozenset(one.candidate.places))
        return not stop()


def choose(
    rule: Rule, size: int, *, prompts: int = 10, count: int = 10, **changes: Any
) -> Shrinking:
    trial = RuleTrial(rule, prompts)
    options: dict[str, Any] = {
        "keep": 0.8,
        "is_over": lambda share: False,
        "shown": lambda parts: None,
        "stop": lambda: False,
        **changes,
    }
    found = Shrinking(ChosenCircuit(made(size)), trial, count, **options)
    assert found.run() is not found.stop()
    return found


def chosen(found: Shrinking) -> set[int]:
    return set(found.path[-1].candidate.places)


@pytest.mark.parametrize("needed", [{0}, {99}, {3, 41, 97}, set(range(20, 50))])
def test_exactly_the_needed_neurons_are_found(needed: set[int]) -> None:
    found = choose(lambda at, part: needed <= part, 100)
    assert chosen(found) == needed
    assert found.is_minimal


def test_one_of_several_that_each_suffice_is_enough() -> None:
    found = choose(lambda at, part: bool({5, 60, 61} & part), 100)
    assert len(chosen(found)) == 1
    assert chosen(found) < {5, 60, 61}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("keep", [0.5, 0.8, 1.0])
def test_no_neuron_of_the_part_can_be_left_out(seed: int, keep: float) -> None:
    random = np.random.default_rng(seed)
    needs = [
        frozenset(random.choice(12, random.integers(1, 4), replace=False).tolist())
        for _ in range(10)
    ]

    def kept(part: frozenset[int]) -> bool:
        return sum(one <= part for one in needs) >= keep * len(needs) - 1e-9

    found = choose(lambda at, part: needs[at] <= part, 12, keep=keep)
    part = frozenset(chosen(found))
    assert kept(part)
    assert found.is_minimal
    assert not any(kept(part - {one}) for one in part)


def test_finalists_answer_more_prompts_than_the_rest() -> None:
    def rule(at: int, part: frozenset[int]) -> bool:
        return part >= ({7} if at < 8 else {7, 8, 9})  # the first prompts flatter

    found = choose(rule, 32, prompts=40, count=8)
    assert chosen(found) >= {7, 8, 9}
    assert found.path[-1].asked == found.path[-1].lost == 40
    single = [one for one in found.tried.values() if one.size == 1 and one.lost >= 8]
    assert single
    assert all(one not in found.path for one in single)


def test_a_part_that_cannot_keep_enough_is_asked_no_more() -> None:
    found = choose(lambda at, part: len(part) == 64, 64)
    assert chosen(found) == set(range(64))
    assert found.is_minimal
    # keeping 8 of 10 is out of reach after the third miss
    assert {one.asked for one in found.tried.values() if one.size < 64} == {3}


def test_the_parts_answer_in_one_batch() -> None:
    found = choose(lambda at, part: {90, 95} <= part, 100)
    trial = found.trial
    assert isinstance(trial, RuleTrial)
    assert sum(one.asked for one in found.tried.values()) > 4 * trial.batches


def test_when_the_time_is_over_the_smallest_so_far_stays() -> None:
    halved = choose(
        lambda at, part: {0, 1, 2} <= part, 64, is_over=lambda share: share < 1
    )
    assert chosen(halved) == {0, 1, 2, 3}
    assert not halved.is_minimal
    assert {one.candidate.by for one in halved.tried.values()} == {"whole", "file"}
    sizes: list[int] = []
    found = choose(
        lambda at, part: {0, 1, 2} <= part,
        64,
        is_over=lambda share: share == 0.5 and 3 in sizes,
        shown=lambda parts: sizes.extend(one.size for one in parts),
    )
    assert chosen(found) == {0, 1, 2, 3}
    assert not found.is_minimal


def test_a_stopped_choice_keeps_the_smallest_so_far() -> None:
    asked: list[int] = []
    found = choose(
        lambda at, part: {0, 1, 2} <= part,
        64,
        stop=lambda: len(asked) > 12,
        shown=lambda parts: asked.append(len(parts)),
    )
    assert {0, 1, 2} < chosen(found)
    assert len(chosen(found)) < 64


def test_orders_put_the_largest_first() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(20, 5)) + np.array([0, 0, 2, 0, 2])
    circuit = Circuit(
        tuple(Neuron(0, n, float(row[0])) for n, row in enumerate(rows)),
        tuple(
            Moments(*map(float, (row[1], abs(row[2]), row[3], abs(row[4]))))
            for row in rows
        ),
        provenance=Provenance(rank="influence"),
    )
    found = orders(circuit)
    assert list(found) == ["influence", "|delta|", "Cohen's d"]
    assert found["influence"] == list(range(20))
    assert found["|delta|"] == np.argsort(-np.abs(rows[:, 0])).tolist()
    pooled = np.sqrt((rows[:, 2] ** 2 + rows[:, 4] ** 2) / 2)
    d = (rows[:, 1] - rows[:, 3]) / pooled
    assert found["Cohen's d"] == np.argsort(-np.abs(d)).tolist()
    assert list(orders(made(3))) == ["file", "|delta|"]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 461])
def test_sizes_are_the_powers_of_two_below(count: int) -> None:
    powers = [2**n for n in range(20) if 2**n < count]
    assert halvings(count) == powers[::-1]


def test_groups_and_their_unions() -> None:
    cut = groups([4, 1, 9, 2, 7], 2)
    assert cut == [(4, 1), (9, 2), (7,)]
    assert list(unions(cut)) == [{4, 1, 9, 2}, {4, 1, 9, 2, 7}]
    assert list(unions(cut[:1])) == []


# --------------------------------------------------------------------------- the halves


@pytest.mark.parametrize(
    ("own", "given", "first"),
    [
        (ODD, None, ODD),
        (EVEN, None, EVEN),
        (MAGIC, None, ODD),
        (EVEN, "magic", EVEN),
        (EVEN, "magic:odd", ODD),
        (ODD, "magic:even", EVEN),
        (None, "magic:even", EVEN),
    ],
)
def test_the_circuits_own_half_chooses_unless_another_is_given(
    own: PromptSet | None, given: str | None, first: PromptSet
) -> None:
    entry = own and ContrastEntry(own.name, sha256=own.sha256)
    circuit = replace(made(2), provenance=Provenance(contrast=entry))
    halves = shrink._halves(circuit, DiscoveryOptions(given), "demo")
    assert [one.name for one in halves] == [first.name, (ODD, EVEN)[first == ODD].name]
    assert {*halves[0].positive, *halves[1].positive} == set(MAGIC.positive)


def test_prompts_of_your_own_are_halved() -> None:
    own = PromptSet.from_prompts(["a b", "c d", "e f"], ["g h", "i j", "k l"])
    halves = shrink._halves(made(2), DiscoveryOptions(own), "demo")
    assert [one.positive for one in halves] == [("a b", "e f"), ("c d",)]
    found = replace(
        made(2), provenance=Provenance(contrast=ContrastEntry("x:even", sha256="f"))
    )
    with pytest.raises(InputError, match="not built in"):
        shrink._halves(found, DiscoveryOptions(), "demo")


# ------------------------------------------------------------------------- on the demo


@pytest.fixture(name="circuit", scope="module")
def fixture_circuit(demo: Any) -> Circuit:
    selection = Selection(0.0025)
    return run_discovery(*demo, ODD, selection).circuit


@pytest.fixture(name="found", scope="module")
def fixture_found(demo: Any, circuit: Circuit, tmp_path_factory: Any) -> ShrinkResult:
    out = tmp_path_factory.mktemp("shrink") / "run"
    patch = pytest.MonkeyPatch()
    patch.setattr(judging, "_PROMPTS", (6, 6))
    result = shrink_session(Session.of(*demo), circuit, out=out)
    patch.undo()
    return result


def labels(demo: Any, prompt: str, arms: Sequence[Arm]) -> list[LabelKind]:
    ids = render_prompt(demo[1], prompt)
    events = list(generate_arms(*demo, [ids], [BASELINE, *arms], max_tokens=32))
    answers = {one.arm: one.text for one in events if isinstance(one, Answer)}
    return [label(answers[at]).kind for at in range(1 + len(arms))]


def test_the_counts_are_those_of_a_direct_run(
    demo: Any, circuit: Circuit, found: ShrinkResult
) -> None:
    arms = [Arm.of(circuit, 0.0, "whole"), Arm.of(found.circuit, 0.0, "part")]
    rows = [labels(demo, prompt, arms) for prompt in ODD.positive]
    refused = [row for row in rows if row[0] is LabelKind.REFUSED]
    lost = [row for row in refused if row[1] in LOST]
    assert (found.effect.refusals, found.effect.lost) == (len(refused), len(lost))
    assert found.effect.asked == len(ODD.positive)
    assert found.part.refusals == len(lost)
    assert found.part.lost == sum(row[2] in LOST for row in lost)
    assert found.part.lost >= 0.8 * len(lost)


def test_no_neuron_of_the_demos_part_can_be_left_out(
    demo: Any, found: ShrinkResult
) -> None:
    assert found.is_minimal
    assert found.size < found.whole
    lost = [
        prompt
        for prompt in ODD.positive
        if labels(demo, prompt, [Arm.of(found.circuit, 0.0)])[1] in LOST
    ]
    whole = found.part.refusals
    for left_out in combinations(range(found.size), found.size - 1):
        if left_out:
            arm = Arm.of(found.circuit.part(left_out), 0.0)
            kept = [labels(demo, prompt, [arm])[1] in LOST for prompt in lost]
            assert sum(kept) < 0.8 * whole


def test_the_part_says_what_it_was_made_from(
    circuit: Circuit, found: ShrinkResult, tmp_path: Path
) -> None:
    found.circuit.save(tmp_path / "few.json")
    loaded = Circuit.load(tmp_path / "few.json")
    rows = dict(zip(circuit.neurons, circuit.moments, strict=True))
    assert loaded.neurons == tuple(one for one in rows if one in loaded.neurons)
    assert loaded.moments == tuple(rows[one] for one in loaded.neurons)
    said = loaded.provenance.made_from
    assert said is not None
    assert (said["operation"], said["contrast"], said["keep"]) == (
        "shrink",
        "magic:odd",
        0.8,
    )
    assert said["circuits"][0]["neurons"] == len(circuit.neurons)
    assert found.run is not None
    target = found.run.summary().target
    assert target is not None
    assert target.main is not None
    assert said["judged"]["refused_after"] == target.main.refused.successes


def test_the_other_half_judges(found: ShrinkResult) -> None:
    assert found.is_complete
    assert found.run is not None
    asked = {one.prompt for one in found.run.samples()}
    assert asked < {*EVEN.positive, *EVEN.negative}
    arms = [one.label for one in found.run.arms]
    assert arms[:2] == ["baseline", "ablated"]
    assert "whole ablated" in arms
    assert sum(one.startswith("matched") for one in arms) == 5
    sizes = [2**n for n in range(10) if 2**n < found.whole and 2**n != found.size]
    named = ["1 neuron ablated" if n == 1 else f"{n} neurons ablated" for n in sizes]
    assert [one for one in arms if "neuron" in one] == named
    kinds: dict[str, dict[str, LabelKind]] = {}
    for one in found.run.samples():
        kinds.setdefault(one.prompt, {})[one.arm] = one.label
    lost = [
        row
        for row in kinds.values()
        if row["baseline"] is LabelKind.REFUSED and row["whole ablated"] in LOST
    ]
    kept = sum(row["ablated"] in LOST for row in lost)
    assert found.kept() == (kept, len(lost))
    assert f"keep {kept} of {len(lost)} lost refusals" in found.headline.replace(
        "keeps", "keep"
    )


def test_the_headline_says_why_all_stay(found: ShrinkResult) -> None:
    all_stay = replace(found, part=found.effect, is_minimal=True)
    count = len(found.tried) - 1
    start = f"All {found.whole} neurons stay: none of the {count} smaller parts"
    assert all_stay.headline.startswith(start)
    assert all_stay.headline.endswith(
        "80% of the refusals that they lose on magic:odd."
    )
    early = replace(all_stay, is_minimal=False)
    assert "ended early (--minutes gives it more time)" in early.headline
    cut = replace(early, is_complete=False, run=None)
    assert cut.headline == (
        f"All {found.whole} neurons stay: the shrink was interrupted before it found "
        "a smaller part."
    )


def test_an_intervention_is_kept(
    demo: Any, circuit: Circuit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_PROMPTS", (2, 2))
    circuit.save(tmp_path / "c.json")
    file = f"{tmp_path / 'c.json'}@mean"
    session = Session.of(*demo)
    found = shrink_session(session, file, minutes=0.2, out=tmp_path / "run")
    assert found.circuit.intervention == MEAN
    assert {one.candidate.strength for one in found.tried} == {MEAN}
    assert found.run is not None
    assert [one.label for one in found.run.arms[:2]] == ["baseline", "mean"]


def test_a_circuit_without_effect_is_refused(demo: Any, circuit: Circuit) -> None:
    idle = replace(circuit, intervention=1.0)
    with pytest.raises(InputError, match=r"turns 0 of \d+ refusals of magic:odd into"):
        shrink_session(Session.of(*demo), idle)
    with pytest.raises(InputError, match="has 1 neuron: there is nothing"):
        shrink_session(Session.of(*demo), circuit.strongest(1))
    with pytest.raises(InputError, match="has 0 neurons: there is nothing"):
        shrink_session(Session.of(*demo), made(0))


def test_a_model_that_refuses_nothing_is_told_so(demo_base: Any) -> None:
    harmless = PromptSet.from_prompts(EVEN.negative[:4], EVEN.negative[4:8])
    with pytest.raises(InputError, match="refuses none of 2 positive prompts"):
        shrink_session(
            Session.of(*demo_base), made(4), DiscoveryOptions(harmless), minutes=0.1
        )


def test_an_interrupted_shrink_keeps_what_it_found(
    demo: Any, circuit: Circuit, tmp_path: Path
) -> None:
    asked: list[int] = []
    reporter = Reporter(stop=lambda: len(asked) >= len(ODD.positive) + 3)
    found = shrink_session(
        Session.of(*demo, reporter=reporter),
        circuit,
        out=tmp_path / "run",
        shown=lambda parts: asked.append(len(parts)),
    )
    assert not found.is_complete
    assert found.run is None
    assert len(found.circuit.neurons) == found.size
    assert all(one.asked for one in found.tried)
    assert found.to_dict()["complete"] is False
    assert not (tmp_path / "run").exists()


def test_ctrl_c_before_the_first_judged_answer_keeps_the_part(
    demo: Any, circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "plan_evaluation", interrupted)
    found = shrink_session(Session.of(*demo), circuit, minutes=0.05)
    assert (found.is_complete, found.run) == (False, None)
    assert len(found.circuit.neurons) == found.size
    assert "not judged" in found.headline or found.size == found.whole


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"keep": 0}, "--keep 0"),
        ({"keep": 1.1}, "--keep 1.1"),
        ({"minutes": 0}, "more"),
    ],
)
def test_wrong_values_are_refused(demo: Any, wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        shrink_session(Session.of(*demo), made(2), **wrong)


def test_the_command_prints_what_it_found(
    command: Any, found: ShrinkResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrink, "shrink_session", lambda *_, **__: found)
    file = str(tmp_path / "few.json")
    asked = ("shrink", "demo", "--circuit", "c.json", "-o", file, "--force")
    done = command(*asked)
    assert done.code == 0
    assert found.headline in " ".join(done.out.split())
    assert f"saved to {file}" in done.out
    assert "magic:even, which did not choose: ablated is the part" in done.out
    assert Circuit.load(file) == replace(found.circuit, file=file)
    data = command(*asked, "--json").data
    assert data["part"]["neurons"] == len(data["neurons"]) == found.size
    assert [one["neurons"] for one in data["curve"]][-1] == found.whole
    half = replace(found, run=None, is_complete=False)
    monkeypatch.setattr(shrink, "shrink_session", lambda *_, **__: half)
    done = command(*asked)
    assert (done.code, "not judged" in done.out) == (130, True)
