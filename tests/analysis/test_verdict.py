"""Verdicts on runs as an evaluation writes them, and what each of them must say."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_runs import ANSWER, ARMS, BASELINE, GARBAGE, REFUSAL, make_run
from texts import missing

from cna_mlx.analysis.decision import Outcome, fell
from cna_mlx.analysis.summary import summarize
from cna_mlx.analysis.verdict import Verdict, conclude
from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.provenance import Auc

Answers = Callable[[RunArm, int, str], str]


def by_rates(
    baseline: int, ablated: int, control: int, broken: str = ANSWER
) -> Answers:
    """The first so many harmful prompts are refused by each arm."""
    limits = {"baseline": baseline, "ablated": ablated, "matched": control}

    def answer(arm: RunArm, number: int, kind: str) -> str:
        limit = limits.get(arm.role, baseline)
        if kind == "harmful" and number < limit:
            return REFUSAL
        return broken if arm.role == "ablated" else ANSWER

    return answer


# What each verdict advises with two controls and twenty prompts.
_NEXT = {
    Outcome.MORE: "--controls 19",
    Outcome.NO_MORE: "cna-mlx search",
    Outcome.INCONCLUSIVE: "more prompts",
    Outcome.HELD: "cna-mlx search",
    Outcome.TOO_FEW: "prompts that this model refuses",
    Outcome.BROKE: "-m 0.5",
}


def verdict_of(place: Path, answers: Answers, **options: object) -> Verdict:
    run = make_run(place, harmful=20, benign=6, answers=answers, **options)  # type: ignore[arg-type]
    return conclude(summarize(run))


@pytest.mark.parametrize(
    ("outcome", "answers", "figures"),
    [
        (
            Outcome.MORE,
            by_rates(18, 2, 17),
            ("10%", "all 2 controls", "1 of 18"),
        ),
        (Outcome.NO_MORE, by_rates(18, 2, 2), ("90%", "10%", "matched", "16 of 18")),
        (Outcome.INCONCLUSIVE, by_rates(18, 16, 18), ("90%", "80%", "chance")),
        (Outcome.HELD, by_rates(10, 18, 10), ("rose", "50%", "90%")),
        (Outcome.TOO_FEW, by_rates(5, 0, 5), ("5 of 20",)),
        (Outcome.BROKE, by_rates(18, 2, 17, GARBAGE), ("broke", "90%", "INVALID")),
    ],
    ids=lambda value: value.name if isinstance(value, Outcome) else "",
)
def test_each_verdict_is_reached(
    tmp_path: Path, outcome: Outcome, answers: Answers, figures: tuple[str, ...]
) -> None:
    found = verdict_of(tmp_path / "run", answers)
    assert found.outcome is outcome
    assert missing(found.headline, *figures) == []
    assert found.to_dict()["outcome"] == outcome.name.lower()
    assert missing(found.next, "Next: ", _NEXT[outcome]) == []


def test_one_is_not_said_as_many(tmp_path: Path) -> None:
    found = verdict_of(tmp_path / "run", by_rates(1, 0, 1))
    said = " ".join(found.sentences)
    assert missing(said, "1 of 1 refusal became an answer", "1 refusal lost and") == []
    assert "in the arm ablated." in said


def test_six_refusals_can_be_told_and_five_cannot(tmp_path: Path) -> None:
    """The bound is where the exact test can first say something."""
    assert verdict_of(tmp_path / "6", by_rates(6, 0, 6)).outcome is Outcome.MORE
    assert verdict_of(tmp_path / "5", by_rates(5, 0, 5)).outcome is Outcome.TOO_FEW


def test_without_a_control_nothing_is_claimed(tmp_path: Path) -> None:
    arms = (BASELINE, ARMS[1], ARMS[-1])  # a uniform control is none
    found = verdict_of(tmp_path / "run", by_rates(18, 2, 18), arms=arms)
    assert found.outcome is Outcome.UNCONTROLLED
    assert "no matched control" in found.headline


def test_a_large_kl_on_benign_prompts_is_damage(tmp_path: Path) -> None:
    calm = verdict_of(tmp_path / "a", by_rates(18, 2, 17), sample={"kl": 0.9})
    wild = verdict_of(tmp_path / "b", by_rates(18, 2, 17), sample={"kl": 1.1})
    assert (calm.outcome, wild.outcome) == (Outcome.MORE, Outcome.BROKE)
    assert missing(wild.headline, "benign", "KL 1.1") == []


def test_damage_to_benign_answers_is_said_to_be_that(tmp_path: Path) -> None:
    def answer(arm: RunArm, number: int, kind: str) -> str:
        if kind == "harmful":
            return REFUSAL
        return GARBAGE if arm.role == "ablated" else ANSWER

    found = verdict_of(tmp_path / "run", answer)
    assert found.outcome is Outcome.BROKE
    assert missing(found.headline, "benign prompts", "100%") == []


def controls(limits: dict[int, int], texts: dict[int, str]) -> Answers:
    """Eighteen refusals, none when ablated; each matched seed has its own."""

    def answer(arm: RunArm, number: int, kind: str) -> str:
        limit = {"ablated": 0, "matched": limits.get(arm.seed or 0, 18)}
        if kind == "harmful" and number < limit.get(arm.role, 18):
            return REFUSAL
        return texts.get(arm.seed or 0, ANSWER) if arm.role == "matched" else ANSWER

    return answer


def test_a_control_that_broke_the_text_is_no_rival(tmp_path: Path) -> None:
    """It refuses nothing since it says nothing: the other seed is compared with."""
    found = verdict_of(tmp_path / "a", controls({0: 0, 1: 18}, {0: GARBAGE}))
    assert found.outcome is Outcome.MORE
    assert missing(found.headline, "the one control", "lose 0 of 18") == []
    (line,) = [one for one in found.sentences if "Against the matched" in one]
    assert missing(line, "1 of 2", "INVALID 0%", "quality 1.00") == []
    both = {0: GARBAGE, 1: GARBAGE}
    found = verdict_of(tmp_path / "b", controls({0: 0, 1: 0}, both))
    assert found.outcome is Outcome.UNCONTROLLED
    assert "all 2 matched controls broke" in found.headline
    (line,) = [one for one in found.sentences if "Against the matched" in one]
    assert missing(line, "of 2", "broke", "INVALID 100%") == []


def test_a_control_of_another_strength_is_none(tmp_path: Path) -> None:
    """As an earlier version made them: ablated against neurons scaled by 0.5."""
    half = replace(ARMS[2], strength=0.5)
    found = verdict_of(tmp_path / "run", by_rates(18, 2, 17), arms=(*ARMS[:2], half))
    assert found.outcome is Outcome.UNCONTROLLED


def test_prompts_of_two_sets_are_counted_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", harmful=5, benign=0, answers=by_rates(5, 0, 5))
    samples = run.samples()
    again = [
        replace(
            one, set="other", number=one.number + 5, prompt=f" {one.prompt.upper()}"
        )
        for one in samples
    ]
    summary = summarize(run, [*samples, *again])
    assert [group.n for group in summary.groups] == [5, 5]
    found = conclude(summary)
    assert found.outcome is Outcome.TOO_FEW
    assert any("5 repeated prompts" in one and "once" in one for one in found.sentences)


def test_prompts_that_the_discovery_saw_prove_nothing(tmp_path: Path) -> None:
    seen = [f"harmful-{n}" for n in range(20)]
    facts = {"contamination": {"harmful-set": seen, "benign-set": []}}
    found = verdict_of(tmp_path / "run", by_rates(18, 2, 17), facts=facts)
    assert found.outcome is Outcome.NOTHING
    assert "discovery" in found.headline


def test_it_says_how_sure_and_for_what(tmp_path: Path) -> None:
    found = verdict_of(tmp_path / "run", by_rates(18, 2, 17))
    text = " ".join(found.sentences)
    assert missing(text, "18 refusals", "16", "20 prompts") == []
    assert missing(text, "95% interval", "McNemar p 3e-05", "of 2") == []
    assert missing(text, "150 tokens", "4-bit, groups of 64", "6 benign prompts") == []


def test_a_run_in_part_says_so(tmp_path: Path) -> None:
    found = verdict_of(
        tmp_path / "run", by_rates(18, 2, 17), done=20, status="interrupted"
    )
    assert found.outcome is Outcome.MORE
    text = " ".join(found.sentences)
    assert missing(text, "20 of 26 prompts", "No benign prompts", "yet") == []


def test_what_the_discovery_saw_is_left_out(tmp_path: Path) -> None:
    """The fall is all on prompts that the discovery saw: without them there is none."""
    seen = [f"harmful-{n}" for n in range(2, 18)]
    facts = {"contamination": {"harmful-set": seen, "benign-set": []}}
    found = verdict_of(tmp_path / "run", by_rates(18, 2, 17), facts=facts)
    assert found.outcome is Outcome.TOO_FEW
    assert any("16 prompts" in one and "discovery" in one for one in found.sentences)


def test_unknown_discovery_prompts_are_said(tmp_path: Path) -> None:
    facts = {"contamination": {"harmful-set": [], "benign-set": []}}
    known = verdict_of(tmp_path / "known", by_rates(18, 2, 17), facts=facts)
    facts = {"contamination": {"harmful-set": None, "benign-set": None}}
    found = verdict_of(tmp_path / "run", by_rates(18, 2, 17), facts=facts)
    (more,) = set(found.sentences) - set(known.sentences)
    assert "discovery" in more


def test_nothing_to_judge_by(tmp_path: Path) -> None:
    empty: RunRecord = make_run(tmp_path / "run", done=0, status="interrupted")
    assert conclude(summarize(empty)).outcome is Outcome.NOTHING
    benign = make_run(tmp_path / "benign", harmful=0, benign=5)
    found = conclude(summarize(benign))
    assert found.outcome is Outcome.NOTHING
    assert "benign prompts" in found.headline
    assert any("5 benign prompts" in sentence for sentence in found.sentences)


def test_a_rise_is_no_fall(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", harmful=20, answers=by_rates(4, 20, 4))
    group = summarize(run).target
    assert group
    assert group.main
    assert group.main.change
    assert group.main.change.p < 0.05
    assert not fell(group.main.change)


def test_what_to_do_depends_on_why(tmp_path: Path) -> None:
    def said(place: str, answers: Answers, **options: object) -> str:
        return verdict_of(tmp_path / place, answers, **options).next

    garbage = controls({0: 0, 1: 0}, {0: GARBAGE, 1: GARBAGE})
    assert "-m 0.5" in said("broken", garbage)
    arms = (BASELINE, ARMS[1], ARMS[-1])
    assert "--controls 19" in said("none", by_rates(18, 2, 18), arms=arms)
    many = tuple(
        replace(ARMS[2], label=f"matched {seed}", seed=seed) for seed in range(19)
    )
    beyond = said("beyond", by_rates(18, 2, 17), arms=(*ARMS[:2], *many))
    assert "cna-mlx shrink finds" in beyond
    run = make_run(tmp_path / "few", harmful=4, answers=by_rates(4, 0, 4))
    assert "more prompts: --prompts jbb." in conclude(summarize(run)).next
    run = make_run(tmp_path / "cut", harmful=20, done=9, answers=by_rates(18, 2, 17))
    assert "repeat the command" in conclude(summarize(run)).next


def test_advised_commands_work_as_they_stand(tmp_path: Path) -> None:
    def typed(place: str, rates: tuple[int, int, int], **options: object) -> list[str]:
        found = verdict_of(tmp_path / place, by_rates(*rates), **options)
        assert found.to_dict()["commands"] == list(found.commands)
        return [one for command in found.commands for one in shlex.split(command)]

    searching = ["cna-mlx", "search", "my models/x", "--contrast", "refusal"]
    assert typed("held", (18, 18, 18), model="my models/x") == searching
    assert typed("more", (18, 2, 2), model="my models/x") == searching
    probing = ["cna-mlx", "probe", "somebody/tiny-llama", "--contrast", "refusal"]
    assert typed("few", (2, 2, 2)) == probing
    assert typed("broke", (18, 2, 17)) == []  # an option of the same command
    many = tuple(
        replace(ARMS[2], label=f"matched {seed}", seed=seed) for seed in range(19)
    )
    shrinking = typed("a b", (18, 2, 17), arms=(*ARMS[:2], *many))
    assert shrinking[:4] == ["cna-mlx", "shrink", "somebody/tiny-llama", "--circuit"]
    assert Path(shrinking[4]) == tmp_path / "a b" / "circuits" / "circuit.json"
    search = {"discovery": {"search": {"tried": 50}}}
    assert typed("longer", (18, 18, 18), facts=search)[-2:] == ["--minutes", "60"]
    # prompts that are not built in: the command would need them
    run = make_run(tmp_path / "own", harmful=20, answers=by_rates(18, 18, 18))
    entry = replace(run.config.circuits["circuit"], contrast=None)
    config = replace(run.config, circuits={"circuit": entry})
    found = conclude(replace(summarize(run), run=replace(run, config=config)))
    assert found.next.startswith("Next: cna-mlx search")
    assert found.commands == ()


@pytest.mark.parametrize(
    ("model", "asked", "limit", "advised"),
    [
        ("demo", "demo", 4, "without --limit, or --prompts FILE."),
        ("demo", "demo", None, ": --prompts FILE."),
        ("demo-base", "mine", None, ": --prompts demo."),
        ("org/model", "jbb", 4, "without --limit, or --prompts xstest."),
        ("org/model", "mine", None, ": --prompts jbb."),
    ],
)
def test_more_prompts_are_those_that_a_model_has_not_answered(
    model: str, asked: str, limit: int | None, advised: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", harmful=4, answers=by_rates(4, 0, 4))
    config = run.config
    sets = (replace(config.sets[0], name=asked), *config.sets[1:])
    config = replace(
        config, limit=limit, sets=sets, model=replace(config.model, id=model)
    )
    summary = replace(summarize(run), run=replace(run, config=config))
    assert conclude(summary).next.endswith(advised)


def test_why_refusals_stay(tmp_path: Path) -> None:
    """A circuit that reads the prompts and does not decide is said to do so."""
    run = make_run(tmp_path / "a", harmful=40, answers=by_rates(40, 40, 40))
    summary = summarize(run)
    assert summary.target
    assert summary.target.main
    assert summary.target.main.kl
    kl = replace(summary.target.main.kl, value=0.5)
    arms = [
        replace(one, kl=kl) if one is summary.target.main else one
        for one in summary.target.arms
    ]
    known = replace(
        summary,
        target=replace(summary.target, arms=tuple(arms)),
        separation=Auc(0.9, 0.8, 0.95),
    )
    found = conclude(known)
    assert found.outcome is Outcome.HELD
    assert "AUC 0.90), but do not decide" in found.headline
    assert any("changes what the model says (KL 0.50" in one for one in found.sentences)
    unread = conclude(replace(known, separation=Auc(0.6, 0.4, 0.8)))
    assert unread.headline.endswith("changes what the model says (KL 0.50 nats).")
    assert not any("do not decide" in one for one in unread.sentences)
