"""A search: what it ranks, how it chooses, and which prompts judge it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from answering import answered_alone

from cna_mlx import DiscoveryOptions, Reporter
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.discover import Discovery, run_discovery
from cna_mlx.discovery.refusing_openings import refusing_openings
from cna_mlx.discovery.selection import Rank, Selection
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CircuitError, CnaError, InputError, RequestError
from cna_mlx.evaluation.asked import Evaluation
from cna_mlx.evaluation.kl import kl_from_baseline
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import LabelKind
from cna_mlx.prompts import load_contrast
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.search import cached, judging, reading, search
from cna_mlx.search.cached import SearchInterrupted, searched_circuit
from cna_mlx.search.candidates import Candidate, candidates, fractions
from cna_mlx.search.reading import read_half
from cna_mlx.search.result import SearchOptions, SearchResult
from cna_mlx.search.search import search_session
from cna_mlx.search.statistics import Statistics, read_statistics
from cna_mlx.search.trial import Standing, Trial, best_by_size, front, long_tried
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.generation import answer_unsteered
from cna_mlx.strength import MEAN
from cna_mlx.util.progress import never

MAGIC = load_contrast("magic")
HALF = MAGIC.half(0)
FRACTION = 0.0025


def members(circuit: Circuit) -> list[tuple[int, int]]:
    return [(one.layer, one.index) for one in circuit.neurons]


def discovered(demo: Any, selection: Selection) -> Discovery:
    return run_discovery(*demo, HALF, selection)


@pytest.fixture(autouse=True, scope="module")
def fixture_cache(tmp_path_factory: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNA_MLX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(name="statistics", scope="module")
def fixture_statistics(demo: Any) -> Statistics:
    openings = refusing_openings(*demo, HALF, Rendering())
    total = sum(run_discovery(*demo, HALF, Selection(FRACTION)).sizes)
    counts = [round(FRACTION * total), round(10 * FRACTION * total)]
    return read_statistics(*demo, HALF, counts, Rendering(), openings=openings)


@pytest.fixture(name="found", scope="module")
def fixture_found(demo: Any, tmp_path_factory: Any) -> SearchResult:
    out = tmp_path_factory.mktemp("search") / "run"
    options = SearchOptions(minutes=0.2)
    return search_session(Session.of(*demo), magic(), options, out)


def magic() -> DiscoveryOptions:
    return DiscoveryOptions("magic", fraction=FRACTION)


@pytest.mark.parametrize("fraction", [FRACTION, 10 * FRACTION])
def test_the_paper_s_circuit_is_the_discovery_s(
    demo: Any, statistics: Statistics, fraction: float
) -> None:
    known = discovered(demo, Selection(fraction)).circuit
    circuit = statistics.circuit(Selection(fraction))
    assert members(circuit) == members(known)
    assert circuit.k == known.k
    assert np.allclose(circuit.moments, known.moments, rtol=1e-5, atol=1e-6)
    assert circuit.is_from(HALF.sha256)
    assert known.provenance.universal_dropped == circuit.provenance.universal_dropped


@pytest.mark.parametrize(
    "rank", ["delta", "normalized", "weighted", "residual", "direct", "influence"]
)
def test_every_rank_chooses_what_discover_chooses(
    demo: Any, statistics: Statistics, rank: Rank
) -> None:
    selection = Selection(0.01, rank, (0, 3), universal=False)
    known = discovered(demo, selection).circuit
    circuit = statistics.circuit(selection)
    assert members(circuit) == members(known)
    assert circuit.provenance.rank == rank
    assert circuit.provenance.layers == (0, 3)
    scores = [one.score for one in known.details]
    assert np.allclose([one.score for one in circuit.details], scores, rtol=1e-4)


def test_left_out_neurons_make_room_for_the_next_best(statistics: Statistics) -> None:
    small = Selection(FRACTION, "influence", universal=False)
    first = members(statistics.circuit(small))
    second = statistics.circuit(small, frozenset(first))
    both = statistics.circuit(replace(small, fraction=2 * FRACTION))
    wanted = members(both)
    assert [*first, *members(second)][: len(wanted)] == wanted


def test_candidates_are_different_and_the_paper_s_is_first(
    statistics: Statistics,
) -> None:
    found = candidates(statistics, FRACTION, 10 * FRACTION)
    sets = [frozenset(members(one.circuit)) for one in found]
    assert len(set(sets)) == len(sets)
    assert [one.is_paper for one in found] == [True] + [False] * (len(found) - 1)
    assert sets[0] == set(members(statistics.circuit(Selection(FRACTION))))
    assert {one.rank for one in found} == set(statistics.scores)
    sizes = {one.selection.fraction for one in found}
    assert sizes == {times * FRACTION for times in (1, 2.5, 5, 10)}


def test_a_circuit_of_universal_neurons_only_is_refused(statistics: Statistics) -> None:
    everyone = frozenset(
        (layer, index)
        for layer, size in enumerate(statistics.sizes)
        for index in range(size)
    )
    crowded = replace(statistics, universal={len(everyone): everyone})
    with pytest.raises(InputError, match="lower --fraction"):
        candidates(crowded, 1.0, 1.0)
    with pytest.raises(InputError, match="fewer --without"):
        candidates(statistics, FRACTION, FRACTION, without=everyone)


def test_without_neurons_for_it_no_circuit_is_the_paper_s(
    statistics: Statistics,
) -> None:
    best = Selection(FRACTION, universal=False)
    gone = frozenset(members(statistics.circuit(best)))
    bare = replace(statistics, universal=dict.fromkeys(statistics.universal, gone))
    assert not bare.circuit(Selection(FRACTION)).neurons
    found = candidates(bare, FRACTION, FRACTION)
    assert found
    assert not any(one.is_paper for one in found)


@pytest.mark.parametrize(
    ("options", "is_usual"),
    [
        ({}, True),
        ({"minutes": 30}, True),
        ({"minutes": 1}, False),
        ({"most_kl": 0.3}, False),
    ],
)
def test_a_hurried_search_is_not_kept_for_other_commands(
    options: dict[str, Any], is_usual: bool
) -> None:
    assert SearchOptions(**options).is_usual is is_usual


def test_sizes_end_at_the_largest_that_is_allowed() -> None:
    assert fractions(0.001, 0.005) == [0.001, 0.0025, 0.005]
    with pytest.raises(InputError, match=r"give at least 0\.001"):
        fractions(0.001, 0.0005)


def standing(lost: int, kl: float, **changes: Any) -> Standing:
    circuit = Circuit.from_neurons([(0, 0, 1.0)])
    one = Candidate(Selection(), (0, 0), circuit)
    return Standing(one, refusals=20, lost=lost, kls=[kl], qualities=[1.0], **changes)


def test_the_front_has_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    tried = [
        standing(int(lost), float(kl))
        for lost, kl in zip(rng.integers(0, 21, 60), rng.random(60), strict=True)
    ]
    found = front(tried)
    for one in tried:
        beaten = any(
            (other.lost >= one.lost and other.kl < one.kl)
            or (other.lost > one.lost and other.kl <= one.kl)
            for other in tried
        )
        assert (one in found) is not beaten
    assert [one.kl for one in found] == sorted(one.kl for one in found)


def test_damage_costs_merit() -> None:
    whole = standing(10, 0.1)
    assert whole.merit(0.3) == 0.5
    assert standing(10, 0.6).merit(0.3) == pytest.approx(-0.5)
    assert standing(10, 0.1, ruined=1).merit(0.3) == 0.5
    assert standing(10, 0.1, ruined=4).merit(0.3) == pytest.approx(0.5 - 3 / 20)
    assert whole.is_harmless(0.3)
    assert not standing(10, 0.31).is_harmless(0.3)
    assert not standing(10, 0.1, ruined=3).is_harmless(0.3)
    whole.qualities = [0.94]
    assert whole.is_harmless(0.3)
    assert whole.worth == pytest.approx(11 / 22 - 0.5 * 0.03 / 0.07)
    assert whole.merit(0.3) == 0.5
    whole.qualities = [0.89]
    assert not whole.is_harmless(0.3)
    whole.qualities *= 42  # of 50 with the eight whole ones: .9076
    assert whole.merit(0.3) == pytest.approx(0.5 - (0.97 - 0.9076) / 0.07)


def test_what_is_tried_late_counts_from_five_refusals() -> None:
    tried = [standing(3, 0.1) for _ in range(4)]
    for one, refusals in zip(tried, (32, 16, 5, 4), strict=True):
        one.refusals = refusals
    assert long_tried(tried) == tried[:3]
    tried[0].refusals = 8  # of a search that has just begun, half
    assert long_tried(tried[:1] + tried[3:]) == [tried[0], tried[3]]


def test_the_best_of_each_size_go_on() -> None:
    counts = [1, 9, 5, 7, 3, 2, 8, 4]
    tried = [standing(lost, 0.1) for lost in counts]
    for at, one in enumerate(tried):
        size = Selection(0.01 if at >= 4 else 0.001)
        is_paper = at == 0
        one.candidate = replace(one.candidate, selection=size, is_paper=is_paper)
    kept = best_by_size(tried, 1, 0.3, 2)
    assert [one.lost for one in kept] == [1, 9, 8, 4]
    tried[1].kls = [0.6]  # loses the most, and costs too much
    assert [one.lost for one in best_by_size(tried, 1, 0.3)] == [1, 7, 8]


def test_the_best_circuits_are_tried_at_other_strengths_too() -> None:
    costs = ((9, 0.2), (8, 0.1), (7, 0.1), (6, 0.25))
    tried = [standing(lost, kl) for lost, kl in costs]
    for one in tried[2:]:
        one.candidate = replace(one.candidate, selection=Selection(0.01))
    other = standing(20, 0.0)  # the paper's, and one that is not ablated: neither
    other.candidate = replace(other.candidate, is_paper=True)
    tried += [other, Standing(tried[0].candidate.at(MEAN), refusals=20, lost=20)]

    def named(found: list[Candidate]) -> list[tuple[float, Any]]:
        return [(one.selection.fraction, one.strength) for one in found]

    assert named(search.pinned(tried, 0.3)) == [(0.001, MEAN), (0.01, MEAN)]
    # .2 leaves room for -0.25, .1 for both, .25 for none
    assert named(search.stronger(tried, 0.24)) == [
        *((0.001, -0.25), (0.001, -0.5), (0.001, -0.25)),
        *((0.01, -0.5), (0.01, -0.25)),
    ]


def test_the_same_text_for_several_prompts_is_one_answer() -> None:
    one = standing(0, 0.1)
    one.refusals = 0
    refusal = SimpleNamespace(kind="harmful", is_refused=True)
    for text in ("That is on page 3.", "That is on page 3.", "Take the red one."):
        own = SimpleNamespace(quality=1.0, label=LabelKind.ANSWERED, text=text)
        one.take(cast(Any, refusal), cast(Any, own))
    assert (one.refusals, one.lost, one.share) == (3, 2, pytest.approx(2 / 3))


def test_a_search_is_judged_on_prompts_that_it_did_not_use(
    found: SearchResult,
) -> None:
    assert found.is_whole
    assert found.run is not None
    asked = {one.prompt for one in found.run.samples()}
    other = MAGIC.half(1)
    assert asked == {*other.positive, *other.negative}
    assert found.contrast.sha256 == HALF.sha256
    labels = [one.label for one in found.run.arms]
    assert labels[:2] == ["baseline", "ablated"]
    assert sum(label.startswith("matched") for label in labels) == 5


def test_the_run_keeps_what_was_tried_and_each_layer_s_best(
    statistics: Statistics, found: SearchResult
) -> None:
    assert found.run is not None
    path = found.run.directory / "search.json"
    data = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert data["tried"] == found.to_dict()["tried"]
    assert data["chosen"] == found.chosen.to_dict()
    assert "verdict" not in data
    for layer, moments in enumerate(statistics.moments):
        gaps = np.abs(moments[0] - moments[2])
        best = data["layers"]["delta"][layer]
        assert len(best) == 48
        order = sorted(range(len(gaps)), key=lambda at: -gaps[at])[:48]
        assert np.allclose([score for _, score in best], gaps[order], rtol=1e-3)
        assert np.allclose(gaps[[index for index, _ in best]], gaps[order], rtol=1e-3)
    shown = [len(layer) for layer in data["layers"]["influence"]]
    assert any(shown)
    assert all(score > 0 for layer in data["layers"]["influence"] for _, score in layer)


def test_the_chosen_circuit_says_how_it_was_chosen(
    found: SearchResult, tmp_path: Path
) -> None:
    assert found.circuit is not None
    assert found.run is not None
    found.circuit.save(tmp_path / "c.json")
    said = Circuit.load(tmp_path / "c.json").provenance.search
    assert said is not None
    own = found.chosen
    assert (said["lost"], said["refusals"]) == (own.lost, own.refusals)
    assert said["tried"] == len(found.standings)
    figures = found.run.summary().groups[0]
    assert figures.main is not None
    assert said["judged"]["refused_after"] == figures.main.refused.successes
    assert said["judged"]["refused_after"] <= 2 < said["judged"]["refused_before"]
    assert found.circuit.provenance.rank == own.candidate.rank


def test_the_best_loses_as_many_refusals_as_any_harmless_one(
    found: SearchResult,
) -> None:
    most = max(one.refusals for one in found.standings)
    harmless = [
        one
        for one in found.standings
        if one.is_harmless(0.24) and one.refusals == most == found.chosen.refusals
    ]
    assert found.chosen.worth == max(one.worth for one in harmless)
    assert any(one.candidate.strength == MEAN for one in found.standings)


def test_a_second_circuit_shares_no_neuron(
    demo: Any, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_PROMPTS", (2, 2))
    assert found.circuit is not None
    found.circuit.save(tmp_path / "first.json")
    options = SearchOptions(minutes=0.1, without=(tmp_path / "first.json",))
    second = search_session(Session.of(*demo), magic(), options, tmp_path / "run")
    first = set(members(found.circuit))
    assert all(
        first.isdisjoint(members(one.candidate.circuit)) for one in second.standings
    )
    assert not any(one.candidate.is_paper for one in second.standings)


def test_a_model_that_refuses_too_little_is_told_so(demo_base: Any) -> None:
    with pytest.raises(InputError, match=r"refuses \d+ of 12 .* too few to search by"):
        search_session(Session.of(*demo_base), magic())


def test_an_interrupted_search_keeps_what_it_found(demo: Any, tmp_path: Path) -> None:
    asked: list[int] = []
    reporter = Reporter(stop=lambda: len(asked) >= 2)
    session = Session.of(*demo, reporter=reporter)
    found = search_session(
        session,
        magic(),
        out=tmp_path / "run",
        shown=lambda standings: asked.append(len(standings)),
    )
    assert not found.is_whole
    assert found.run is None
    assert found.chosen.lost == found.chosen.refusals == 2
    assert found.to_dict()["complete"] is False
    assert not (tmp_path / "run").exists()


def test_a_second_ctrl_c_loses_nothing(demo: Any, tmp_path: Path) -> None:
    shown: list[int] = []

    def interrupt(standings: Any) -> None:
        shown.append(len(standings))
        if len(shown) == 2:
            raise KeyboardInterrupt

    found = search_session(
        Session.of(*demo), magic(), out=tmp_path / "run", shown=interrupt
    )
    assert shown[-1] == 0
    assert not found.is_whole
    assert found.chosen.lost == found.chosen.refusals == 2
    assert found.circuit is not None


@pytest.fixture(name="quick")
def fixture_quick(monkeypatch: pytest.MonkeyPatch) -> SearchOptions:
    monkeypatch.setattr(judging, "_PROMPTS", (2, 2))
    return SearchOptions(minutes=0.05)


def test_the_next_search_reads_nothing(
    demo: Any, quick: SearchOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session.of(*demo)
    first = read_half(session, HALF, FRACTION)
    monkeypatch.delattr(reading, "answer_unsteered")
    monkeypatch.delattr(reading, "read_statistics")
    again = read_half(session, HALF, FRACTION)
    assert (again.refused, again.answered) == (first.refused, first.answered)
    one, other = again.statistics, first.statistics
    assert (one.universal, one.openings) == (other.universal, other.openings)
    assert one.scores.keys() == other.scores.keys()
    for rank, layers in one.scores.items():
        for mine, theirs in zip(layers, other.scores[rank], strict=True):
            assert np.array_equal(mine, theirs)
    for mine, theirs in zip(one.moments, other.moments, strict=True):
        assert np.array_equal(mine, theirs)
    assert one.model == other.model
    assert one.origin == other.origin
    small = replace(quick, most=2 * FRACTION)
    found = search_session(session, magic(), small, tmp_path / "run")
    assert {one.candidate.size for one in found.standings} == {8}


def test_ctrl_c_before_the_first_judged_answer_keeps_the_circuit(
    demo: Any, quick: SearchOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "plan_evaluation", interrupted)
    small = replace(quick, most=FRACTION)
    found = search_session(Session.of(*demo), magic(), small, tmp_path / "run")
    assert (found.is_whole, found.run) == (False, None)
    assert found.circuit is not None
    assert members(found.circuit) == members(found.chosen.candidate.circuit)


@pytest.mark.parametrize(
    ("seconds", "prompts"), [(0, 12), (2 * 28 * 20 + 1, 20), (float("inf"), 50)]
)
def test_the_time_that_is_left_decides_how_many_prompts_judge(
    demo: Any, seconds: float, prompts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def planned(session: Any, subject: Any, sets: Any, *_: Any, **__: Any) -> None:
        asked.extend(len(one.prompts) for one in sets)
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "plan_evaluation", planned)
    refusal = load_contrast("refusal")
    chosen = ChosenCircuit(Circuit.from_neurons([(0, 0, 1.0)]))
    halves = refusal.half(0), refusal.half(1)
    # 7 arms, 64 tokens for the 32 of a second, and twice that
    run = judging.judge(
        Session.of(*demo), "search", chosen, [], halves, seconds=seconds, pace=1.0
    )
    assert (run, asked) == (None, [prompts, prompts])


def test_a_directory_with_another_run_does_not_cost_the_search(
    demo: Any,
    found: SearchResult,
    quick: SearchOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path))
    assert found.run is not None
    taken, said = found.run.directory, list[str]()
    before = (taken / "run.json").read_bytes()
    session = Session.of(*demo, reporter=Reporter(warn=said.append))
    small = replace(quick, most=FRACTION)
    other = search_session(session, magic(), small, taken)
    assert other.is_whole
    assert other.run is not None
    place = other.run.directory
    assert place.parent == tmp_path
    assert f"{taken} has another run; this one is written to {place}" in said
    assert (taken / "run.json").read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off"])
def test_a_damaged_reading_is_read_again(demo: Any, damage: bytes) -> None:
    session = Session.of(*demo)
    first = read_half(session, HALF, FRACTION)
    (path,) = (one for one in Store().files() if one.parent.name == "statistics")
    whole = path.read_bytes()
    path.write_bytes(damage or whole[: len(whole) // 2])
    again = read_half(session, HALF, FRACTION)
    assert again.refused == first.refused
    assert path.read_bytes()[:4] == whole[:4]
    assert len(path.read_bytes()) == len(whole)


@pytest.mark.parametrize(
    "wrong",
    [
        {"openings": [[10**6]]},
        {"openings": [[]]},
        {"openings": 5},
        {"refused": [12]},
        {"answered": [-1]},
        {"refused": [True]},
    ],
)
def test_a_reading_that_cannot_be_is_read_again(
    demo: Any, wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reads(*_: Any) -> None:
        raise NotImplementedError

    session = Session.of(*demo)
    read_half(session, HALF, FRACTION)
    (path,) = (one for one in Store().files() if one.parent.name == "statistics")
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    arrays["head"] = np.array(json.dumps({**json.loads(str(arrays["head"])), **wrong}))
    np.savez(path, **arrays)
    monkeypatch.setattr(reading, "_answers", reads)
    with pytest.raises(NotImplementedError):
        read_half(session, HALF, FRACTION)
    path.write_bytes(whole)
    read_half(session, HALF, FRACTION)


def test_what_was_chosen_is_kept_where_the_judge_fails(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise CnaError("the disk is full")

    monkeypatch.setattr(search, "judge", fails)
    file = tmp_path / "c.json"
    done = command("search", "demo", "--minutes", "0.05", "-o", str(file))
    assert (done.code, "the disk is full" in done.failure) == (1, True)
    said = Circuit.load(file).provenance.search
    assert said is not None
    assert said["judged"] is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"minutes": 0}, "--minutes 0"),
        ({"most": 1.5}, "--most 1.5"),
        ({"most_kl": -1}, "--max-kl -1"),
        ({"most_kl": float("nan")}, "--max-kl nan"),
        ({"most_kl": float("inf")}, "--max-kl inf"),
    ],
)
def test_wrong_options_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SearchOptions(**wrong)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNA_MLX_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_next_command_uses_the_found_circuit(
    demo: Any, found: SearchResult, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "search_session", lambda *_, **__: found)
    session = Session.of(*demo)
    first = searched_circuit(session, magic())
    assert Path(first).is_relative_to(cache)
    monkeypatch.delattr(cached, "search_session")
    assert searched_circuit(session, magic()) == first
    assert found.circuit is not None
    assert members(Circuit.load(first)) == members(found.circuit)


def test_a_kept_circuit_of_another_contrast_is_not_used(
    demo: Any, found: SearchResult, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "search_session", lambda *_, **__: found)
    session = Session.of(*demo)
    first = Path(searched_circuit(session, magic()))
    foreign = Circuit.load(first)
    origin = foreign.provenance
    assert origin.contrast is not None
    other = replace(origin.contrast, sha256=MAGIC.half(1).sha256)
    replace(foreign, provenance=replace(origin, contrast=other)).save(first)
    assert searched_circuit(session, magic()) == str(first)
    assert Circuit.load(first).is_from(HALF.sha256)


def test_a_cache_that_cannot_be_written_is_said_before_the_search(
    demo: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cached, "search_session")
    (cache / "cache").mkdir()
    (cache / "cache" / "searches").write_text("in the way")
    with pytest.raises(InputError, match="searches"):
        searched_circuit(Session.of(*demo), magic())


def test_a_cache_that_cannot_be_written_does_not_cost_the_result(
    command: Any, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "search_session", lambda *_, **__: found)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "searches").write_text("in the way")
    done = command("search", "demo")
    assert (done.code, "Refusals fell from" in done.out) == (0, True)
    assert "saved to" not in done.out


def test_circuits_of_another_model_cannot_be_left_out(
    command: Any, demo: Any, statistics: Statistics, tmp_path: Path
) -> None:
    other = Circuit.from_neurons([(40, 0, 1.0)])
    with pytest.raises(CircuitError, match="layer 40"):
        search_session(Session.of(*demo), magic(), SearchOptions(without=(other,)))
    file = tmp_path / "c.json"
    statistics.circuit(Selection(FRACTION)).save(file)
    done = command("search", "demo-base", "--without", str(file))
    assert (done.code, "add --allow-transfer" in done.failure) == (2, True)
    assert "--allow-transfer" in command("search", "-h").out


def test_a_search_that_found_none_is_no_circuit(
    demo: Any, found: SearchResult, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = replace(found, circuit=None)
    monkeypatch.setattr(cached, "search_session", lambda *_, **__: none)
    with pytest.raises(RequestError, match="leave out --search for the paper's"):
        searched_circuit(Session.of(*demo), magic())


def test_an_interrupted_search_keeps_its_best_circuit_apart(
    demo: Any, found: SearchResult, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = replace(found, is_whole=False)
    monkeypatch.setattr(cached, "search_session", lambda *_, **__: early)
    said: list[str] = []
    session = Session.of(*demo, reporter=Reporter(note=said.append))
    files = []
    for _ in range(2):  # it is not taken for the circuit of a finished search
        with pytest.raises(SearchInterrupted) as stopped:
            searched_circuit(session, magic())
        files.append(stopped.value.file)
    assert files[0] == files[1]
    assert said == [f"the best circuit so far, not judged: {files[0]}"] * 2
    assert found.circuit is not None
    assert members(Circuit.load(files[0])) == members(found.circuit)
    none = replace(early, circuit=None)
    monkeypatch.setattr(cached, "search_session", lambda *_, **__: none)
    with pytest.raises(KeyboardInterrupt) as plain:
        searched_circuit(session, magic())
    assert plain.type is KeyboardInterrupt


def test_other_commands_use_it(
    command: Any, found: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "search_session", lambda *_, **__: found)
    wanted = ("demo", "--search", "-p", "Cast a spell.", "--max-tokens", "4")
    done = command("diff", *wanted, "--json")
    assert done.code == 0
    entries = done.data["circuits"]
    assert {one["rank"] for one in entries.values()} == {found.chosen.candidate.rank}
    refused = command("diff", *wanted, "--circuit", "x.json")
    assert (refused.code, "not both" in refused.failure) == (2, True)


def test_the_command_prints_what_it_found(
    command: Any, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "search_session", lambda *_, **__: found)
    file = str(tmp_path / "c.json")
    done = command("search", "demo", "-o", file)
    assert done.code == 0
    assert Circuit.load(file).provenance.search
    assert "Refusals fell from" in done.out
    assert f"saved to {file}" in done.out
    data = command("search", "demo", "-o", file, "--force", "--json").data
    assert data["complete"] is True
    assert data["tried"][0]["is_paper"] is True
    assert data["chosen"]["lost"] == found.chosen.lost
    monkeypatch.setattr(
        search, "search_session", lambda *_, **__: replace(found, is_whole=False)
    )
    assert command("search", "demo", "-o", file, "--force").code == 130


def test_an_interrupted_search_says_what_it_has(
    command: Any, found: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = replace(found, run=None, is_whole=False)
    first = Standing(found.chosen.candidate)
    shown = (
        (cut, "the chosen one of", ""),
        (replace(cut, circuit=None), "is allowed so far; ", "was judged:"),
        (replace(cut, circuit=None, chosen=first, standings=(first,)), "", "Pareto"),
    )
    for early, said, wrong in shown:
        monkeypatch.setattr(search, "search_session", lambda *_, e=early, **__: e)
        done = command("search", "demo")
        text = " ".join(done.out.split())
        assert (done.code, said in text) == (130, True)
        assert not wrong or wrong not in text
        assert "The search ended before the circuit was judged." in text
        # without --output the circuit is kept in the cache
        assert ("saved to" in text) is bool(early.circuit)
    (kept,) = Store().files()
    assert kept.parent.name == "searches"
    assert found.circuit is not None
    assert members(Circuit.load(kept)) == members(found.circuit)


def test_a_search_that_found_none_names_no_file(
    command: Any, found: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = replace(found, circuit=None)
    monkeypatch.setattr(search, "search_session", lambda *_, **__: none)
    file = tmp_path / "c.json"
    data = command("search", "demo", "-o", str(file), "--json").data
    assert (data["circuit_file"], data["chosen"], file.exists()) == (None, None, False)


def test_a_line_of_the_front_names_its_number(
    command: Any, found: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "search_session", lambda *_, **__: found)
    monkeypatch.setenv("COLUMNS", "60")
    size = found.chosen.candidate.size
    assert f"neurons {size}: rank " in command("search", "demo").out


def test_no_circuit_stands_twice_in_the_front(
    command: Any, found: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = replace(found.standings[0], kls=[9.0], lost=0)  # off the front
    assert paper.candidate.is_paper
    made = replace(found, chosen=paper, standings=(paper, *found.standings[1:]))
    assert paper not in made.front
    monkeypatch.setattr(search, "search_session", lambda *_, **__: made)
    lines = command("search", "demo").out.splitlines()
    assert sum("chosen, the paper's" in line for line in lines) == 1


def test_the_kl_of_the_best_is_that_of_all_benign_prompts(
    demo: Any, found: SearchResult
) -> None:
    """As a run measures it; nothing is measured once the time is over."""
    model, tokenizer = demo
    benign = Benchmark.from_prompts(HALF.negative[:4], "benign", "ordinary")
    trial = Trial(model, tokenizer, Rendering(), benign, benign)
    own = Standing(found.chosen.candidate, kls=[9.0])
    assert trial.measure([own], never, lambda: True)
    assert own.kls == [9.0]
    assert trial.measure([own], never, never)
    arms = [BASELINE, own.candidate.arm("own")]
    for kl, prompt in zip(own.kls, benign.prompts, strict=True):
        ids = render_prompt(tokenizer, prompt.text, Rendering())
        (answer,) = answer_unsteered(model, tokenizer, [ids], 32)
        expected = kl_from_baseline(model, ids, answer.token_ids, arms)
        assert expected is not None
        assert kl == pytest.approx(expected[1], rel=1e-3)
    assert not trial.measure([own], lambda: True, never)


def test_finalists_answer_further_prompts_at_length(
    demo: Any, found: SearchResult
) -> None:
    """Those that were not asked, as many as were."""
    model, tokenizer = demo
    harmful = Benchmark.from_prompts(HALF.positive[:6], "harmful", "refused")
    benign = Benchmark.from_prompts(HALF.negative[:4], "benign", "ordinary")
    trial = Trial(model, tokenizer, Rendering(), harmful, benign)
    chosen = found.chosen.candidate
    own = Standing(chosen, refusals=5, lost=3, kls=[0.1], qualities=[0.5])
    assert trial.finish([own], 2, never, lambda: True)  # no time is left
    assert (own.refusals, own.long, own.usual) == (5, [], 1.0)
    assert trial.finish([own], 2, never, never)
    arms = [BASELINE, chosen.arm("own")]
    refused, ordinary = (
        Evaluation(model, tokenizer, [one], arms, Rendering(), 64)
        for one in (harmful, benign)
    )
    baseline, steered = zip(
        *(
            cast(list[Sample], answered_alone(asked, at))
            for asked, at in ((refused, 2), (ordinary, 1), (refused, 3), (ordinary, 2))
        ),
        strict=True,
    )
    refused_at = [at for at in (0, 2) if baseline[at].is_refused]
    assert refused_at
    assert own.refusals == 5 + len(refused_at)
    answered = (LabelKind.ANSWERED, LabelKind.PARTIAL)
    lost = {steered[at].text for at in refused_at if steered[at].label in answered}
    assert own.lost == 3 + len(lost)
    assert own.qualities == [0.5]
    assert own.long == [one.quality for one in steered]
    assert own.usual == pytest.approx((baseline[1].quality + baseline[3].quality) / 2)
    assert own.kls == [0.1]
    late = Standing(chosen, since=2)
    assert trial.finish([late], 2, never, never)
    missed = [answered_alone(refused, at) for at in (0, 1)]
    assert late.refusals == own.refusals - 5 + sum(
        one[0].is_refused for one in missed if one
    )
    assert len(late.qualities) == 2  # of short answers
    assert late.long == own.long
    assert not trial.finish([own], 2, lambda: True, never)


def test_long_answers_count_against_the_model_s_own() -> None:
    """A circuit is not blamed where the model repeats itself without it."""
    one = standing(10, 0.1, usual=0.92, long=[0.94])
    assert one.worth == pytest.approx(11 / 22)
    one.long = [0.84, 0.88]  # as good, as far as so few answers tell
    assert one.worth == pytest.approx(11 / 22)
    one.long = [0.79, 0.81]
    assert one.worth == pytest.approx(11 / 22 - 0.05 / 0.2 / 2)
    assert one.is_harmless(0.3)
