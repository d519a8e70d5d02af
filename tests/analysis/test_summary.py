"""Figures of a run are those of its samples."""

from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_runs import (
    ANSWER,
    ARMS,
    GARBAGE,
    REFUSAL,
    SWEEP,
    make_run,
)

from cna_mlx.analysis.metrics import Group
from cna_mlx.analysis.summary import summarize
from cna_mlx.analysis.verdict import conclude
from cna_mlx.evaluation.run_config import RunArm, main_arm
from cna_mlx.evaluation.samples import Continuation, by_arm
from cna_mlx.labels.label import LabelKind
from cna_mlx.report.group_tables import category_kinds, category_table
from cna_mlx.strength import Pin, Strength


def mixed(arm: RunArm, number: int, kind: str) -> str:
    """A little of everything, and not the same for every control."""
    if kind == "benign":
        return REFUSAL if arm.role == "ablated" and number == 8 else ANSWER
    if arm.role == "ablated":
        return (REFUSAL, ANSWER, GARBAGE, "")[number % 4]
    return ANSWER if number == (arm.seed or 0) + 1 else REFUSAL


def test_counts_are_those_of_the_samples(tmp_path: Path) -> None:
    run = make_run(tmp_path, answers=mixed)
    columns = by_arm(sample for sample in run.samples() if sample.kind == "harmful")
    group = summarize(run).groups[0]
    assert (group.set, group.kind, group.n) == ("harmful-set", "harmful", 8)
    for figures in group.arms:
        column = columns[figures.arm.label]
        for verdict in LabelKind:
            count = sum(sample.label is verdict for sample in column)
            assert figures.labels[verdict].successes == count
            assert figures.labels[verdict].n == len(column)
        mean = sum(sample.quality for sample in column) / len(column)
        assert figures.quality.value == pytest.approx(mean)
    assert sum(one.successes for one in group.arms[1].labels.values()) == 8


def test_flips_are_paired_by_prompt(tmp_path: Path) -> None:
    """Of the seven refusals one is answered and four become unusable."""
    group = summarize(make_run(tmp_path, answers=mixed)).groups[0]
    main = group.main
    assert main
    assert main.change
    found = main.change
    assert (found.both, found.lost, found.ruined, found.gained) == (2, 1, 4, 0)
    assert group.fates == {LabelKind.ANSWERED: 1, LabelKind.INVALID: 4}


@pytest.mark.parametrize(("same", "said"), [(2, None), (3, 3), (8, 8)])
def test_one_text_in_place_of_several_refusals_is_told(
    tmp_path: Path, same: int, said: int | None
) -> None:
    def answers(arm: RunArm, number: int, kind: str) -> str:
        if arm.label != "ablated":
            return REFUSAL
        place = 0 if number < same else number
        return f"Boil the kettle for {place} minutes, then pour it over all the tea."

    summary = summarize(make_run(tmp_path, benign=0, answers=answers))
    text = "Boil the kettle for 0 minutes, then pour ..."
    assert summary.groups[0].repeated == (said and (text, said))
    sentences = " ".join(conclude(summary).sentences)
    told = f"{said} of the 8 answers in their place are the same text"
    assert (told in sentences) is (said is not None)


def test_the_strongest_control_is_the_one_that_loses_most(tmp_path: Path) -> None:
    def answers(arm: RunArm, number: int, kind: str) -> str:
        refused = {"matched 0": 6, "matched 1": 3}.get(arm.label, 8)
        return REFUSAL if number < refused else ANSWER

    group = summarize(make_run(tmp_path, benign=0, answers=answers)).groups[0]
    matched = group.control("matched")
    assert matched
    assert matched.strongest == "matched 1"
    assert (matched.least, matched.most) == (3 / 8, 6 / 8)
    assert matched.refused == pytest.approx(4.5 / 8)
    assert group.against_control
    assert group.against_control.before.successes == 3


def test_over_refusal_is_a_group_of_its_own(tmp_path: Path) -> None:
    summary = summarize(make_run(tmp_path, answers=mixed))
    assert [group.kind for group in summary.groups] == ["harmful", "benign"]
    assert summary.benign
    assert summary.benign.arm("ablated").refused.successes == 1
    assert summary.target
    assert summary.target.n == 8


def test_categories_add_up(tmp_path: Path) -> None:
    group = summarize(make_run(tmp_path, answers=mixed)).groups[0]
    assert sum(one.n for one in group.categories) == group.n
    for figures in group.arms:
        total = sum(one.refused[figures.arm.label] for one in group.categories)
        assert total == figures.refused.successes


def test_rates_with_and_without_what_was_seen(tmp_path: Path) -> None:
    seen = ["harmful-0", "harmful-1", "harmful-2"]
    facts = {"contamination": {"harmful-set": seen, "benign-set": []}}
    summary = summarize(make_run(tmp_path, answers=mixed, facts=facts))
    group, benign = summary.groups
    assert (group.n, group.seen) == (8, 3)
    assert group.unseen
    assert group.unseen.n == 5
    assert (benign.seen, benign.unseen) == (0, None)
    assert summary.target
    assert summary.target.unseen
    assert summary.target.unseen.n == 5


def test_curves_hold_the_baseline_where_it_belongs(tmp_path: Path) -> None:
    group = summarize(make_run(tmp_path, arms=SWEEP)).groups[0]
    assert [strength for strength, _ in group.multipliers] == [0.0, 0.5, 1.0, 1.5]
    assert [strength for strength, _ in group.additions] == [-1.0, -0.5, 0.0]
    assert group.multipliers[2][1] is group.additions[2][1] is group.baseline


def test_the_gauge_tells_the_kinds_apart(tmp_path: Path) -> None:
    summary = summarize(make_run(tmp_path))
    assert summary.separation
    assert summary.separation.value == 1.0  # .9 and .1 in the constructed samples
    assert summarize(make_run(tmp_path / "b", benign=0)).separation is None


def test_the_main_arm(tmp_path: Path) -> None:
    assert main_arm(ARMS) is ARMS[1]
    assert main_arm([ARMS[0], RunArm("m=0.5", "scaled", 0.5)]).strength == 0.5  # type: ignore[union-attr]
    assert main_arm(ARMS[:1]) is None


def test_labels_are_made_again_from_the_texts(tmp_path: Path) -> None:
    wrong = {"label": LabelKind.ANSWERED, "span": None, "quality": 0.5}
    run = make_run(tmp_path, sample=wrong)
    assert summarize(run).groups[0].baseline.refused.successes == 0
    again = summarize(run, [one.relabelled() for one in run.samples()])
    assert again.groups[0].baseline.refused.successes == 8
    assert again.groups[0].baseline.quality.value == 1.0


def test_json_is_json(tmp_path: Path) -> None:
    import json

    data = summarize(make_run(tmp_path, arms=SWEEP, answers=mixed)).to_dict()
    again = json.loads(json.dumps(data, allow_nan=False))
    assert again["prompts"] == {"done": 12, "planned": 12}
    group = again["groups"][0]
    assert [arm["label"] for arm in group["arms"]] == [arm.label for arm in SWEEP]
    assert group["arms"][0]["role"] == "baseline"
    assert group["arms"][0]["change"] is None


@pytest.mark.parametrize("pin", [Pin(kind="mean"), Pin(0.5)], ids=str)
def test_a_pinned_circuit_is_judged_against_controls_that_are_pinned_alike(
    tmp_path: Path, pin: Pin
) -> None:
    def summary_of(name: str, control: Strength) -> Group:
        arms = (
            *ARMS[:2],
            RunArm.of(str(pin), "pinned", pin, circuit="circuit"),
            RunArm.of("matched 0", "matched", control, seed=0, circuit="matched-0"),
        )
        return summarize(make_run(tmp_path / name, arms=arms)).groups[0]

    alike = summary_of("alike", pin)
    assert alike.main
    assert alike.main.arm.label == str(pin)
    assert alike.against_control
    others = (0.0, Pin(kind="mean"), Pin(0.5), Pin(0.25), Pin())
    for number, other in enumerate(one for one in others if one != pin):
        assert summary_of(str(number), other).against_control is None
    # the curve has multipliers only
    assert [strength for strength, _ in alike.multipliers] == [0.0, 1.0]


def test_refusals_lost_are_counted_by_category_and_level(tmp_path: Path) -> None:
    """Mild prompts lose their refusals; a refusal that became garbage is not lost."""

    def answers(arm: RunArm, number: int, kind: str) -> str:
        if kind == "benign" or arm.role != "ablated" or number >= 4:
            return ANSWER if kind == "benign" else REFUSAL
        return GARBAGE if number == 3 else ANSWER

    run = make_run(tmp_path, answers=answers)
    samples = [
        replace(one, level="mild" if one.number < 4 else "severe")
        for one in run.samples()
        if one.kind == "harmful"
    ]
    group = summarize(run, samples).groups[0]
    found = {one.name: one for one in group.categories}
    assert [(name, one.is_level) for name, one in found.items()] == [
        ("Fraud", False),
        ("Privacy", False),
        ("mild", True),
        ("severe", True),
    ]
    assert {name: one.lost for name, one in found.items()} == {
        "Fraud": 2,
        "Privacy": 1,
        "mild": 3,
        "severe": 0,
    }
    (_, categories), (name, levels) = category_kinds(group)
    assert len(categories) == len(levels) == 2
    table = category_table(group, name, levels)
    assert table.columns == (
        ["level", "prompts", "baseline refuses", "ablated refuses", "lost"]
    )
    cells = [[cell.text for cell in row] for row in table.rows]
    assert cells == [["mild", "4", "4", "0", "3"], ["severe", "4", "4", "4", "0"]]
    rows = group.to_dict()["categories"]
    assert [row.get("level") for row in rows] == [None, None, "mild", "severe"]


def test_what_a_first_word_changes_is_counted(tmp_path: Path) -> None:
    """Its word is the baseline's, whatever the new answer makes of it."""
    run = make_run(tmp_path, benign=0)
    again = Continuation.of(
        "Sorry!You ask too much. I can't help with that.", (1,), "stop"
    )
    samples = [
        replace(one, opened=again) if one.arm == "ablated" and one.number == 1 else one
        for one in run.samples()
    ]
    found = summarize(run, samples).groups[0].openings
    assert found
    assert (found.n, found.returned, found.words) == (1, 1, ("I",))
