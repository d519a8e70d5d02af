"""What a run could show, against simulated runs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commandline import QUESTIONS, TINY, Outcome

from cna_mlx import Circuit
from cna_mlx.analysis.statistics import mcnemar_exact
from cna_mlx.commands import audit, compare, evaluate
from cna_mlx.evaluation.arms import AUDIT_SEEDS, SEEDS
from cna_mlx.evaluation.power import power, smallest_fall

SIMULATED = 20_000


def simulated(n: int, k: int, fall: float, control: float = 0.1) -> float:
    """The share of simulated runs with a fall that both tests see."""
    random = np.random.default_rng(20261129)
    refused = round(0.9 * n)
    lost = random.binomial(refused, fall / 100 * n / refused, SIMULATED)
    controls = random.binomial(refused, control, (SIMULATED, k))
    rank = (1 + (controls >= lost[:, None]).sum(axis=1)) / (k + 1)
    p = np.array([mcnemar_exact(count, 0) for count in range(refused + 1)])[lost]
    return float(((p < 0.05) & (rank <= max(0.05, 1 / (k + 1)))).mean())


@pytest.mark.parametrize("k", [0, 1, 5, 19, 40])
@pytest.mark.parametrize(("n", "fall"), [(8, 70), (20, 35), (30, 20), (100, 15)])
def test_it_is_the_share_of_simulated_runs(n: int, k: int, fall: float) -> None:
    assert power(n, k, fall) == pytest.approx(simulated(n, k, fall), abs=0.015)


def test_a_control_that_does_as_much_leaves_one_in_twenty() -> None:
    """The circuit and its controls lose the same share."""
    for n in (30, 100, 300):
        assert power(n, 19, 27, control=0.3) <= 0.05
    assert power(300, 19, 27, control=0.3) >= 0.03


def test_more_prompts_and_deeper_falls_are_seen_more() -> None:
    assert min(np.diff([power(40, 19, fall) for fall in range(91)])) > -1e-9
    sizes = [power(n, 19, 30) for n in (10, 20, 50, 100, 300)]
    assert sorted(sizes) == sizes
    assert power(5, 19, 90) == power(0, 19, 90) == 0.0


def test_the_smallest_fall_is_just_enough() -> None:
    for n, k in ((8, 5), (30, 5), (30, 19), (100, 19)):
        fall = smallest_fall(n, k)
        assert fall is not None
        assert power(n, k, fall) >= 0.8 > power(n, k, fall - 1)
    assert smallest_fall(6, 19) is None


def test_the_commands_have_the_librarys_numbers_of_controls() -> None:
    few = (evaluate.evaluate, compare.compare)
    for command, count in ((audit.audit, AUDIT_SEEDS), *((one, SEEDS) for one in few)):
        option = next(one for one in command.params if one.name == "seeds")
        assert option.default == count


def test_nothing_is_said_of_benign_prompts(
    command: Callable[..., Outcome], brief: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "asked.txt"
    path.write_text("\n".join(QUESTIONS), encoding="utf-8")
    line = ["eval", TINY, *brief, "--max-tokens", "4", "--extend-to", "0"]
    line += ["--controls", "1", "--no-kl", "--json"]
    found = command(*line, "--prompts", f"benign={path}", "--out", str(tmp_path / "b"))
    assert found.code == 0
    assert json.loads(found.out)["status"] == "complete"
    assert "If the model" not in found.err
    found = command(*line, "--prompts", f"harmful={path}", "--out", str(tmp_path / "h"))
    assert "refuses 90% of these 4 harmful prompts" in " ".join(found.err.split())


@pytest.mark.parametrize("controls", [2, 19])
def test_controls_that_share_neurons_count_as_fewer(
    controls: int,
    command: Callable[..., Outcome],
    brief: list[str],
    tmp_path: Path,
) -> None:
    asked, out = tmp_path / "asked.txt", tmp_path / "run"
    asked.write_text("\n".join(QUESTIONS), encoding="utf-8")
    line = ["eval", TINY, *brief, "--max-tokens", "2", "--extend-to", "0"]
    line += ["--prompts", f"harmful={asked}", "--controls", str(controls), "--no-kl"]
    found = command(*line, "--out", str(out))
    assert found.code == 0
    circuits = {
        path.stem: {neuron[:2] for neuron in Circuit.load(path).neurons}
        for path in (out / "circuits").glob("*.json")
    }
    dealt = [neurons for name, neurons in circuits.items() if "matched" in name]
    n = round(len(set().union(*dealt)) / len(circuits["circuit"]))
    said = " ".join(found.err.split())
    if controls == 2:
        assert n == 2
        assert "2 controls can show 1 in 3 at best, 19 can show 1 in 20" in said
    else:
        assert 2 < n < 19
        text = f"19 controls share neurons and count as {n}: 1 in {n + 1} at best"
        assert text in said


def test_a_long_run_can_be_shortened(
    command: Callable[..., Outcome],
    brief: list[str],
    questions: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = ["eval", TINY, *brief, "--prompts", questions, "--no-kl"]
    line += ["--max-tokens", "4", "--controls", "1"]
    for seconds, is_long in ((590.0, False), (610.0, True)):
        name = "cna_mlx.evaluation.runner.expected_seconds"
        monkeypatch.setattr(name, lambda _, seconds=seconds: (seconds, 0.0))
        found = command(*line, "--out", str(tmp_path / str(seconds)))
        assert ("fewer controls or prompts" in found.err) is is_long
