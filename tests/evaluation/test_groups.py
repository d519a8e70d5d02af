"""Prompts that are answered together: each as if it were alone."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import answered_alone

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.refusing_openings import opening_log_odds
from cna_mlx.evaluation import follow_up
from cna_mlx.evaluation.asked import Evaluation
from cna_mlx.evaluation.batches import answer_group
from cna_mlx.evaluation.kl import kl_after_prefill, kl_from_baseline
from cna_mlx.evaluation.order import grouped, interleaved, sizes
from cna_mlx.evaluation.runs import RunRecord, list_runs
from cna_mlx.evaluation.samples import Sample
from cna_mlx.evaluation.timing import expected_seconds, fastest
from cna_mlx.prompts import load_contrast
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.decoding import Batch
from cna_mlx.steering.events import Token
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.prefill import prefill_prompts

DEMO_CIRCUIT = Path(__file__).parents[1] / "data/version_0_1_0/circuit.json"
HALF = load_contrast("magic").half(1)


@pytest.fixture(name="demo_circuit", scope="module")
def fixture_demo_circuit() -> Circuit:
    return Circuit.load(DEMO_CIRCUIT)


@pytest.fixture(name="evaluation", scope="module")
def fixture_evaluation(demo: Any, demo_circuit: Circuit) -> Evaluation:
    """Six prompts of unequal length in three arms, with everything that is measured."""
    sets = [
        Benchmark.from_prompts(HALF.positive[:3], "harmful", "magic"),
        Benchmark.from_prompts(HALF.negative[:3], "benign", "ordinary"),
    ]
    arms = [BASELINE, *(Arm.of(demo_circuit, m) for m in (0.0, 2.0))]
    model, tokenizer = demo
    return Evaluation(
        model,
        tokenizer,
        sets,
        arms,
        Rendering(),
        24,
        gauge=demo_circuit,
        order="grouped",
        extend_to=40,
        main=1,
        openings=((388,),),
        rows=12,
    )


def same(one: Sample, other: Sample) -> bool:
    """Equal but for rounding and the time."""
    plain: Any = {"kl": None, "gauge": None, "opening": None, "seconds": None}
    plain |= {"words": (), "first": ()}
    if replace(one, **plain) != replace(other, **plain):
        return False
    figures = [
        (getattr(one, name), getattr(other, name))
        for name in ("kl", "gauge", "opening")
    ]
    return all(
        (a is None) is (b is None)
        and (a is None or a == pytest.approx(b, rel=1e-3, abs=1e-5))
        for a, b in figures
    )


@pytest.fixture(name="steps")
def fixture_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The rows of each decoding step: computed, and still answering."""
    found: list[tuple[int, int]] = []
    own = Batch._next

    def counted(self: Batch, tokens: Any, cache: Any) -> Any:
        rows = self._decoding
        found.append((len(tokens), sum(row.finish is None for row in rows)))
        return own(self, tokens, cache)

    monkeypatch.setattr(Batch, "_next", counted)
    return found


def test_a_group_answers_as_each_prompt_alone(
    evaluation: Evaluation, steps: list[tuple[int, int]]
) -> None:
    found, number = [], 0
    while number < 6:
        group = evaluation.next_group(number)
        found += answer_group(evaluation, group) or []
        number = group.stop
    assert [len(rows) for rows in found] == [3] * 6
    assert max(computed for computed, _ in steps) == 12
    assert any(sample.opened for rows in found for sample in rows)
    assert any(sample.extended for rows in found for sample in rows)
    for number, rows in enumerate(found):
        alone = answered_alone(evaluation, number)
        assert alone
        for one, other in zip(rows, alone, strict=True):
            assert same(one, other)
        ids = evaluation.ids(evaluation.prompts[number][1])
        odds = opening_log_odds(evaluation.model, ids, evaluation.openings)
        assert rows[0].opening == pytest.approx(odds, rel=1e-4, abs=1e-4)


def test_rows_that_have_ended_leave(
    demo: Any, demo_circuit: Circuit, steps: list[tuple[int, int]]
) -> None:
    """And the others still say what they say alone."""
    sets = [Benchmark.from_prompts(HALF.positive[:8], "harmful", "magic")]
    arms = [BASELINE, Arm.of(demo_circuit, 0.0)]
    model, tokenizer = demo
    evaluation = Evaluation(model, tokenizer, sets, arms, Rendering(), 150, 0, rows=16)
    found = answer_group(evaluation, range(8))
    assert found
    computed, occupied = np.sum(steps, axis=0)
    lengths = [len(one.token_ids) for rows in found for one in rows]
    assert max(lengths) > 1.3 * np.mean(lengths)  # or nothing could be saved
    assert occupied / computed > 0.9
    assert steps[-1][0] < 8
    for number, rows in enumerate(found):
        alone = answered_alone(evaluation, number)
        assert alone
        assert [one.token_ids for one in rows] == [one.token_ids for one in alone]
        assert [one.finish for one in rows] == [one.finish for one in alone]


@pytest.mark.parametrize("rows", [4, 8])
def test_rows_that_wait_go_on_from_their_caches(
    demo: Any, demo_circuit: Circuit, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """In one batch or in several: no prompt is fed twice."""
    monkeypatch.setattr("cna_mlx.evaluation.batches.KL_TOKENS", 8)
    continued: list[int] = []
    fed: list[int] = []
    in_one_batch = follow_up._continued

    def going_on(evaluation: Evaluation, waiting: Any, *rest: Any) -> Any:
        continued.append(len(waiting))
        monkeypatch.setattr("cna_mlx.steering.decoding.prefill_prompts", feeding)
        return in_one_batch(evaluation, waiting, *rest)

    def feeding(model: Any, prompts: Any, *rest: Any) -> Any:
        fed.extend(map(len, prompts))
        return prefill_prompts(model, prompts, *rest)

    monkeypatch.setattr(follow_up, "_continued", going_on)
    sets = [
        Benchmark.from_prompts(HALF.positive[:4], "harmful", "magic"),
        Benchmark.from_prompts(HALF.negative[:4], "benign", "ordinary"),
    ]
    arms = [BASELINE, *(Arm.of(demo_circuit, m) for m in (0.0, 2.0, 12.0))]
    evaluation = Evaluation(*demo, sets, arms, Rendering(), 60, 8, rows=rows)
    assert answer_group(evaluation, range(8))
    assert sum(continued) > 4
    assert len(continued) == -(-sum(continued) // rows)
    assert fed == []


@pytest.mark.parametrize("extend_to", [0, 120])
def test_rows_wait_for_those_of_other_batches(
    demo: Any,
    demo_circuit: Circuit,
    steps: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    extend_to: int,
) -> None:
    """The last rows of each batch go on together, and say what they say alone."""
    monkeypatch.setattr("cna_mlx.evaluation.batches.KL_TOKENS", 8)
    sets = [
        Benchmark.from_prompts(HALF.positive[:4], "harmful", "magic"),
        Benchmark.from_prompts(HALF.negative[:3], "benign", "ordinary"),
    ]
    arms = [BASELINE, *(Arm.of(demo_circuit, m) for m in (0.0, 2.0, 12.0))]
    evaluation = Evaluation(
        *demo, sets, arms, Rendering(), 60, 8, extend_to=extend_to, rows=8
    )
    found = answer_group(evaluation, evaluation.next_group(0))
    assert found
    assert len(found) == 7
    batches = [computed for computed, _ in steps]
    assert batches.count(8) >= 3 * 8  # three batches of two prompts
    computed, occupied = np.sum(steps, axis=0)
    assert occupied / computed > 0.9
    together = len(batches)
    apart = replace(evaluation, rows=1)
    for number, rows in enumerate(found):
        alone = answered_alone(apart, number)
        assert alone
        for one, other in zip(rows, alone, strict=True):
            assert same(one, other)
            assert (one.text, one.finish) == (other.text, other.finish)
    whole = replace(evaluation, rows=28)
    again = answer_group(whole, range(7))
    assert again
    assert [[one.token_ids for one in rows] for rows in again] == [
        [one.token_ids for one in rows] for rows in found
    ]
    if not extend_to:  # fewer steps than of batches that all go on to their ends
        ends = [
            max(len(one.token_ids) for rows in found[at : at + 2] for one in rows)
            for at in range(0, 7, 2)
        ]
        assert together < sum(ends) - 20


def test_ctrl_c_ends_a_group_while_rows_wait(demo: Any, demo_circuit: Circuit) -> None:
    sets = [Benchmark.from_prompts(HALF.positive[:4], "harmful", "magic")]
    arms = [BASELINE, Arm.of(demo_circuit, 0.0), Arm.of(demo_circuit, -3.0)]
    evaluation = Evaluation(*demo, sets, arms, Rendering(), 60, 8, rows=3)
    asked = 0

    def counted() -> bool:
        nonlocal asked
        asked += 1
        return False

    whole = answer_group(evaluation, range(4), counted)
    assert whole
    for last in (1, asked // 2, asked - 2):
        left = iter(range(last))
        # pressed once: it is not asked again
        assert (
            answer_group(evaluation, range(4), lambda left=left: next(left, 9) == 9)
            is None
        )


def test_the_context_ends_each_row_by_itself(
    demo: Any, demo_circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [Benchmark.from_prompts(HALF.positive[:4], "harmful", "magic")]
    arms = [BASELINE, Arm.of(demo_circuit, 0.0)]
    model, tokenizer = demo
    evaluation = Evaluation(model, tokenizer, sets, arms, Rendering(), 40, 0, rows=8)
    lengths = [len(evaluation.ids(one)) for _, one in evaluation.prompts]
    assert len(set(lengths)) > 1
    for module in ("cna_mlx.steering.decoding", "cna_mlx.evaluation.asked"):
        monkeypatch.setattr(f"{module}.context_length", lambda _: max(lengths) + 5)
    found = answer_group(evaluation, range(4))
    assert found
    for number, rows in enumerate(found):
        alone = answered_alone(evaluation, number)
        assert alone
        assert [one.token_ids for one in rows] == [one.token_ids for one in alone]
    ends = {len(rows[0].token_ids) for rows in found if rows[0].finish == "length"}
    assert max(ends) == 5 + max(lengths) - min(lengths)


def test_the_kl_of_several_prompts(demo: Any, demo_circuit: Circuit) -> None:
    """From the caches of their prompts, with answers of several lengths."""
    model, tokenizer = demo
    arms = [BASELINE, Arm.of(demo_circuit, 0.0), Arm.of(demo_circuit, 3.0)]
    prompts = [[388, 3, 439, 12], [9, 300], [17, 5, 61, 7, 222, 8]]
    answers = [[388, 3, 439, 343, 402], [624], []]
    rows = [(ids, arm) for ids in prompts for arm in arms]
    named = [replace(arm, label=str(at)) for at, (_, arm) in enumerate(rows)]
    fed: list[Any] = []
    list(
        generate_arms(
            model,
            tokenizer,
            [[ids for ids, _ in rows]],
            named,
            max_tokens=3,
            leaves=True,
            prefilled=fed.append,
        )
    )
    last = [ids[-1] for ids in prompts]
    found = kl_after_prefill(model, fed[0], last, answers, arms)
    assert found
    for ids, answer, kls in zip(prompts, answers, found, strict=True):
        alone = kl_from_baseline(model, ids, answer, arms)
        assert kls == pytest.approx(alone, rel=1e-4, abs=1e-6)
        assert kls[0] == 0.0 < kls[1]


def test_a_group_that_is_stopped_is_none(evaluation: Evaluation) -> None:
    asked, allowed = 0, 1 << 20

    def is_over() -> bool:
        nonlocal asked
        asked += 1
        return asked > allowed

    assert answer_group(replace(evaluation, rows=0), []) == []
    assert answer_group(evaluation, range(4), is_over)
    total = asked
    for share in (0, 0.2, 0.5, 0.9):
        asked, allowed = 0, int(share * total)
        assert answer_group(evaluation, range(4), is_over) is None


def test_an_equal_prompt_is_answered_once(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a group, in a later one, and where a run goes on; by kind, and verified."""
    texts = list(HALF.positive[:2]), list(HALF.positive[1:3])
    names = "first.txt", "second.txt"
    for name, own in zip(names, texts, strict=True):
        (tmp_path / name).write_text("\n".join(own), "utf-8")
    line = ["eval", "demo", "--no-kl", "--max-tokens", "12", "--controls", "1"]
    for name in names:
        line += ["--prompts", str(tmp_path / name)]
    asked: list[list[int]] = []

    def counted(evaluation: Evaluation, numbers: Sequence[int], *stop: Any) -> Any:
        asked.append(list(numbers))
        return answer_group(evaluation, numbers, *stop)

    monkeypatch.setattr("cna_mlx.evaluation.runner.answer_group", counted)
    found = {}
    for rows, wanted in (("1", [1, 1, 1]), ("64", [3])):
        asked.clear()
        out = tmp_path / rows
        assert command(*line, "--batch", rows, "--out", str(out)).code == 0
        found[rows] = RunRecord.load(out).samples()
        samples = found[rows]
        assert sorted({(one.set, one.prompt) for one in samples}) == sorted(
            (Path(name).stem, text)
            for name, own in zip(names, texts, strict=True)
            for text in own
        )
        of_text = [one for one in samples if one.prompt == texts[0][1]]
        half = len(of_text) // 2
        for one, other in zip(of_text[:half], of_text[half:], strict=True):
            assert one.set != other.set
            assert one.token_ids == other.token_ids
        arms = len(samples) // 4
        assert [len(numbers) for numbers in asked] == wanted
    kept = found["1"]
    line += ["--batch", "1", "--out", str(tmp_path / "1")]
    path = tmp_path / "1" / "samples.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[: 3 * len(lines) // 4]), "utf-8")
    assert command(*line).code == 0
    again = RunRecord.load(tmp_path / "1").samples()
    assert all(same(one, other) for one, other in zip(kept, again, strict=True))
    verified = command("verify", str(tmp_path / "64"), "--json")
    assert verified.code == 0
    assert json.loads(verified.out)["samples"] == 3 * arms
    assert json.loads(verified.out)["same_tokens"] == 3 * arms


def test_auto_goes_on_with_the_rows_of_the_run(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And measures once, with or without --out."""
    measured: list[int] = []

    def known(*_: Any) -> int:
        measured.append(16)
        return 16

    monkeypatch.setattr("cna_mlx.evaluation.plan.fastest", known)
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path / "runs"))
    line = ["eval", "demo", "--prompts", "demo", "--limit", "1", "--controls", "0"]
    line += ["--max-tokens", "2", "--batch", "auto", "--no-kl"]
    for more in ([], ["--out", str(tmp_path / "own")]):
        measured.clear()
        for _ in range(2):
            assert command(*line, *more).code == 0
        assert measured == [16]
    assert [run.config.rows for run in list_runs()] == [16]


def test_a_group_is_one_batch_or_more(evaluation: Evaluation) -> None:
    assert evaluation.size == 4
    assert evaluation.next_group(5) == range(6)  # two batches, the second cut off
    few = replace(evaluation, rows=2)  # fewer than arms
    assert (few.size, few.next_group(4)) == (1, range(6))
    for rows in (0, 1):
        one = replace(evaluation, rows=rows)
        assert (one.size, one.next_group(4)) == (1, range(4, 5))
    assert sizes(32, 3) == (10, 10)
    assert sizes(32, 5) == (6, 12)
    assert sizes(32, 26) == sizes(26, 32) == (1, 8)


def test_similar_lengths_are_answered_together() -> None:
    texts = ["word " * (1 + n * 7 % 41) + str(n) for n in range(80)]
    sets = [
        Benchmark.from_prompts(texts, "harmful", "h"),
        Benchmark.from_prompts([f"{text}!" for text in texts[:40]], "benign", "b"),
    ]

    def length(named: Any) -> int:
        return len(named[1].text)

    found = grouped(sets, length, 4)
    assert found == grouped(sets, length, 4)
    assert len({prompt.text for _, prompt in found}) == len(found) == 120
    groups = [found[at : at + 4] for at in range(0, 120, 4)]
    spans = [max(map(length, one)) - min(map(length, one)) for one in groups]
    assert np.median(spans) < 30  # the texts have 6 to 210
    for start in range(0, 96, 32):  # Ctrl-C leaves both kinds in proportion
        kinds = [prompt.kind for _, prompt in found[start : start + 32]]
        assert kinds.count("harmful") in (21, 22)
    assert grouped(sets, length, 1) == interleaved(sets)


@pytest.mark.parametrize(
    ("cost", "wanted"),
    [(lambda rows: 1 + rows / 50, 64), (lambda rows: max(16, rows), 16)],
)
def test_the_fastest_width_is_measured(
    evaluation: Evaluation,
    monkeypatch: pytest.MonkeyPatch,
    cost: Callable[[int], float],
    wanted: int,
) -> None:
    """More rows are taken while a prompt gets faster by a tenth or more.

    ``cost`` is of a step.
    """
    sets = [Benchmark.from_prompts([f"{n} cups" for n in range(64)], "benign", "b")]
    now = 0.0

    def answers(
        trial: Evaluation, asked: Sequence[Any], max_tokens: int, **_: Any
    ) -> Iterator[Token]:
        nonlocal now
        for _step in range(max_tokens):
            now += cost(len(asked) * len(trial.arms))
            yield Token(0, 0, 5, " five")

    monkeypatch.setattr("cna_mlx.evaluation.timing.begin_answers", answers)
    assert fastest(replace(evaluation, sets=sets), clock=lambda: now) == wanted


def test_a_run_is_timed_by_one_trial(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches of 24 tokens: 3 s for the prompts, 1 a step, a half for the KL."""
    now = 0.0

    def answers(
        _: Evaluation, asked: Sequence[Any], max_tokens: int, prefilled: Any
    ) -> Iterator[Token]:
        nonlocal now
        now += 3
        prefilled([])
        for _step in range(max_tokens):
            now += 1
            yield from (Token(0, row, 5, " five") for row in range(3 * len(asked)))

    def compared(_model: Any, _fed: Any, last: Any, begun: Any, _arms: Any) -> None:
        nonlocal now
        assert len(last) == len(begun) == 4
        now += 0.5 * len(begun[0])

    monkeypatch.setattr("cna_mlx.evaluation.timing.begin_answers", answers)
    monkeypatch.setattr("cna_mlx.evaluation.timing.kl_after_prefill", compared)
    # the tokens of answers that begin as refusals, and one for an opening
    batch = 3 + 24 + 24 + 1 + 0.5 * 24
    found = expected_seconds(evaluation, clock=lambda: now)
    assert found == pytest.approx((2 * batch, 2 * (40 - 24) / 7))
    plain = replace(evaluation, main=None, openings=(), extend_to=0)
    found = expected_seconds(plain, clock=lambda: now)
    assert found == pytest.approx((2 * (3 + 24 + 0.5 * 24), 0))


def test_a_batch_that_is_neither_rows_nor_auto(command: Any) -> None:
    for value, said in (("x", "neither a number of rows nor auto"), ("0", "x>=1")):
        found = command("eval", "demo", "--batch", value)
        assert found.code == 2
        assert said in found.failure
