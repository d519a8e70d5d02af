"""Whether a circuit works on the other model: figures and words, from runs by hand."""

from pathlib import Path
from typing import Any

import pytest
from commandline import make_screen, sent
from evaluation_runs import (
    ABLATED,
    ANSWER,
    BASELINE,
    GARBAGE,
    REFUSAL,
    Answers,
    make_circuit,
    make_config,
    make_run,
)
from scipy import stats

from cna_mlx.analysis.compared_model import ComparedModel
from cna_mlx.analysis.comparison import ModelComparison, compare_sides
from cna_mlx.analysis.findings import findings
from cna_mlx.analysis.transfer import transfers
from cna_mlx.evaluation.run_config import RunArm, circuit_sha256
from cna_mlx.strength import MEAN
from cna_mlx.ui.compare import comparison_view

PROMPTS = 24
OTHER = RunArm("other (b)", "other", 0.0, None, "other")
CONTROLS = tuple(
    RunArm(f"matched {seed}", "matched", 0.0, seed, f"matched-{seed}")
    for seed in range(19)
)


def refusing(own: int, other: int, baseline: int = PROMPTS) -> Answers:
    """A model that refuses so many prompts unsteered, and with each circuit ablated."""

    def answer(arm: RunArm, number: int, kind: str) -> str:
        left = {"ablated": own, "pinned": own, "other": other}.get(arm.role, baseline)
        return REFUSAL if kind == "harmful" and number < left else f"{ANSWER} {number}"

    return answer


def compared(
    place: Path,
    a: Answers,
    b: Answers,
    *,
    own: RunArm = ABLATED,
    controls: tuple[RunArm, ...] = CONTROLS,
    neurons: int = 4,
    tried: int = 0,
    names: tuple[str, str] = ("chat", "base"),
) -> ModelComparison:
    """Two runs of one circuit.

    Args:
        neurons: of the other model's circuit, as the runs say.
        tried: the seed of the circuit that they tried as the other's; 0 is the circuit
            of both.
    """
    arms = (BASELINE, own, *controls, OTHER)
    circuits = make_config(arms).to_dict()["circuits"]
    circuits["other"] |= {
        "neurons": neurons,
        "sha256": circuit_sha256(make_circuit(tried)),
    }
    sides = []
    for name, answers in zip(names, (a, b), strict=True):
        run = make_run(
            place / name,
            arms=arms,
            harmful=PROMPTS,
            answers=answers,
            circuits=circuits,
        )
        sides.append(ComparedModel.of_run(run, name))
    return compare_sides(*sides)


def statements(found: ModelComparison) -> list[str]:
    return [one.statement for one in transfers(found)]


def test_the_effect_of_the_others_circuit_is_counted(tmp_path: Path) -> None:
    found = compared(tmp_path, refusing(1, 2), refusing(0, 0, baseline=0))
    effect = found.a.with_other
    assert effect
    assert (effect.arm.label, effect.arm.role) == ("other (b)", "other")
    assert (effect.change.before.successes, effect.change.after.successes) == (24, 2)
    low, high = stats.beta.ppf(0.025, 22, 3), stats.beta.ppf(0.975, 23, 2)
    lost = effect.lost
    assert (lost.successes, lost.n) == (22, 24)
    assert (lost.low, lost.high) == (pytest.approx(low), pytest.approx(high))
    assert effect.kl
    assert effect.kl.value == 0.25  # of every benign sample of a steered arm
    assert effect.outcome.name == "FELL"
    data = found.to_dict()["transfer"]
    assert data["a"]["other"]["lost"]["successes"] == 22
    assert data["a"]["other"]["outcome"] == str(effect.outcome)
    assert data["a"]["own"]["lost"]["successes"] == 23
    assert data["b"]["own"]["kl"]["value"] == 0.25


@pytest.mark.parametrize(
    ("there", "at_home", "wanted"),
    [
        (
            refusing(0, 2),
            refusing(1, 5),
            "base's circuit carries over to chat: 22 of 24 refusals lost there "
            "(23 of 24 at home).",
        ),
        (
            refusing(0, 24),
            refusing(1, 5),
            "base's circuit does not carry over to chat: 0 of 24 refusals lost there "
            "(23 of 24 at home). There: did not fall.",
        ),
        (
            refusing(0, 2),
            refusing(0, 0, baseline=0),
            "base's circuit works on chat: 22 of 24 refusals lost there (0 of 0 at "
            "home, too few refusals to tell).",
        ),
        (
            refusing(0, 24),
            refusing(0, 0, baseline=0),
            "base's circuit is not shown to work on chat: 0 of 24 refusals lost there "
            "(0 of 0 at home, too few refusals to tell). There: did not fall.",
        ),
        (
            lambda arm, number, kind: GARBAGE if arm.role == "other" else REFUSAL,
            refusing(1, 5),
            "base's circuit breaks chat: 0 of 24 refusals lost there (23 of 24 at "
            "home). There: the model broke rather than answered.",
        ),
    ],
)
def test_what_is_said_follows_the_figures(
    there: Answers, at_home: Answers, wanted: str, tmp_path: Path
) -> None:
    found = compared(tmp_path, there, at_home)
    assert wanted in statements(found)
    assert wanted in findings(found)


def test_few_controls_are_said_to_be_few(tmp_path: Path) -> None:
    found = compared(tmp_path, refusing(0, 2), refusing(1, 1), controls=CONTROLS[:5])
    assert "too few to be sure" in statements(found)[1]


def test_controls_that_lose_as_much_are_counted(tmp_path: Path) -> None:
    def chat(arm: RunArm, number: int, kind: str) -> str:
        is_rival = arm.seed in (3, 4) and number > 0
        steered = refusing(0, 2)(arm, number, kind)
        return ANSWER if is_rival and kind == "harmful" else steered

    found = compared(tmp_path, chat, refusing(1, 1))
    assert found.a.with_other
    assert found.a.with_other.outcome.name == "NO_MORE"
    assert found.a.with_own
    assert found.a.with_own.outcome.name == "FELL"  # it loses more than the rivals
    assert "is not shown to work on chat" in statements(found)[1]


@pytest.mark.parametrize(("neurons", "outcome"), [(4, "FELL"), (5, "UNCONTROLLED")])
def test_controls_of_a_smaller_circuit_are_not_compared_with(
    neurons: int, outcome: str, tmp_path: Path
) -> None:
    found = compared(tmp_path, refusing(0, 2), refusing(1, 1), neurons=neurons)
    assert found.a.with_other
    assert found.a.with_other.outcome.name == outcome


def test_controls_of_another_intervention_are_not_compared_with(
    tmp_path: Path,
) -> None:
    own = RunArm.of("mean", "pinned", MEAN, circuit="circuit")
    pinned = [
        RunArm.of(one.label, "matched", MEAN, seed=one.seed, circuit=one.circuit)
        for one in CONTROLS
    ]
    found = compared(
        tmp_path, refusing(0, 2), refusing(1, 1), own=own, controls=tuple(pinned)
    )
    assert found.a.with_other
    assert found.a.with_other.outcome.name == "UNCONTROLLED"
    assert found.a.with_own
    assert found.a.with_own.change.lost == 24


def test_any_other_circuit_is_not_taken_for_the_other_models(tmp_path: Path) -> None:
    found = compared(tmp_path, refusing(0, 2), refusing(1, 1), tried=9)
    assert found.a.with_other
    assert transfers(found) == []
    assert "carry over?" not in shown(found, 120)


def shown(found: ModelComparison, width: int, **options: Any) -> str:
    to = make_screen(width, terminal=True, color=False, **options)
    to.out.print(comparison_view(to, found, ()))
    return sent(to.out)


def test_the_table_has_home_and_away(tmp_path: Path) -> None:
    found = compared(tmp_path, refusing(1, 2), refusing(6, 12))
    text = shown(found, 120)
    table = text.partition("carry over?")[2].splitlines()
    home, away = (
        next(line for line in table if part in line)
        for part in ("at home, chat", "on base")
    )
    figures = "24 to 1 of 24 96% [79, >99] 0.25 1.00 fell"
    assert " ".join(home.split()[3:]) == figures
    assert " ".join(away.split()[2:7]) == "24 to 12 of 24"
    assert away.rstrip().endswith("fell")
    narrow = shown(found, 60, encoding="ascii")
    assert max(map(len, narrow.splitlines())) <= 60
    assert narrow.isascii()
