"""KL from the baseline, against a direct computation of both distributions."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from marks import slow

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CnaError
from cna_mlx.evaluation import kl as damage
from cna_mlx.evaluation.kl import kl_from_baseline
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.interventions import MeanDifference, steered

PROMPT = [0, 2, 17, 3, 9, 44, 120]
ANSWER = [5, 81, 9, 300, 12, 7, 7, 41, 250, 6]


def directly(model: Any, arm: Arm, tokens: int) -> np.ndarray:
    """Log-probabilities [tokens, vocabulary] of the answer's tokens, in float64."""
    ids = mx.array([[*PROMPT, *ANSWER[: tokens - 1]]])
    if arm.steering:
        with steered(model, *arm.steering[0]):
            logits = model(ids)
    else:
        logits = model(ids)
    rows = np.array(logits[0, len(PROMPT) - 1 :].astype(mx.float32), np.float64)
    rows -= rows.max(axis=-1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))


def arms_of(circuit: Circuit, direction: MeanDifference) -> list[Arm]:
    return [
        BASELINE,
        Arm.of(circuit, 0.0, "ablated"),
        Arm.of(circuit, 1.5),
        Arm("CAA", ((direction, -0.1),)),
        Arm.of(circuit, 1.0, "again"),
    ]


@pytest.mark.parametrize("tokens", [1, 4, slow(32)])
def test_it_is_the_kl_of_both_distributions(
    kind: Any, model: Any, circuit: Circuit, direction: MeanDifference, tokens: int
) -> None:
    arms = arms_of(circuit, direction)
    found = kl_from_baseline(model, PROMPT, ANSWER, arms, tokens=tokens)
    assert found is not None
    count = min(tokens, len(ANSWER))
    base = directly(model, BASELINE, count)
    assert len(base) == count
    for arm, value in zip(arms, found, strict=True):
        own = directly(model, arm, count)
        wanted = (np.exp(base) * (base - own)).sum(axis=-1).mean()
        # steered activations round differently in another batch
        assert value == pytest.approx(wanted, rel=2e-3 if kind.exact else 0.2, abs=2e-3)
    assert found[0] == 0.0
    assert min(found[1:4]) > 0.001


def test_steps_of_any_size_give_the_same(
    llama: Any,
    circuit: Circuit,
    direction: MeanDifference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arms = arms_of(circuit, direction)
    whole = kl_from_baseline(llama, PROMPT, ANSWER, arms)
    monkeypatch.setattr(damage, "LOGITS", 3 * len(arms) * llama.args.vocab_size)
    assert kl_from_baseline(llama, PROMPT, ANSWER, arms) == pytest.approx(
        whole, rel=1e-4, abs=1e-7
    )


def test_of_an_empty_answer_the_first_token_counts(
    llama: Any, circuit: Circuit
) -> None:
    arms = [BASELINE, Arm.of(circuit, 0.0)]
    empty = kl_from_baseline(llama, PROMPT, [], arms)
    first = kl_from_baseline(llama, PROMPT, ANSWER, arms, tokens=1)
    assert empty == first


def test_nan_is_an_error(llama: Any, circuit: Circuit) -> None:
    arms = [BASELINE, Arm.of(circuit, 3e38, "huge")]
    with pytest.raises(CnaError, match=r"huge .*NaN"):
        kl_from_baseline(llama, PROMPT, ANSWER, arms)


def test_it_can_be_stopped(llama: Any, circuit: Circuit) -> None:
    arms = [BASELINE, Arm.of(circuit, 0.0)]
    stop = iter([False, True, True]).__next__
    assert kl_from_baseline(llama, PROMPT, ANSWER, arms, stop=stop) is None
