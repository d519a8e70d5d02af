"""The most likely first tokens of an answer, in several arms."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from cna_mlx import Arm, Circuit, steered
from cna_mlx.errors import CnaError, InputError
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.first_tokens import first_tokens

IDS = [5, 9, 100, 31, 77, 2]


def probabilities(model: Any, ids: list[int]) -> np.ndarray:
    logits = np.array(model(mx.array([ids]))[0, -1].astype(mx.float32), np.float64)
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


@pytest.mark.parametrize("length", [1, 6])
def test_first_tokens_are_those_of_a_run_of_the_model(
    llama: Any, tokenizer: Any, circuit: Circuit, length: int
) -> None:
    ids = IDS[:length]
    arms = [BASELINE, Arm.of(circuit, 0.0, "ablated"), Arm.of(circuit, 2.0)]
    expected = [probabilities(llama, ids)]
    for multiplier in (0.0, 2.0):
        with steered(llama, circuit, multiplier):
            expected.append(probabilities(llama, ids))
    found = first_tokens(llama, tokenizer, ids, arms)
    assert found is not None
    assert found.arms == ("baseline", "ablated", arms[2].label)
    assert len(found.tokens) == 8
    largest = np.max(expected, axis=0)
    assert [one.id for one in found.tokens] == np.argsort(-largest)[:8].tolist()
    for one in found.tokens:
        wanted = [float(each[one.id]) for each in expected]
        assert one.probabilities == pytest.approx(wanted, abs=1e-5)
        assert one.text == tokenizer.decode([one.id])
    assert not np.allclose(expected[0], expected[1], atol=1e-4)
    entry = found.to_dict()[0]
    assert list(entry["probabilities"]) == list(found.arms)


def test_first_tokens_can_be_stopped_and_name_a_broken_arm(
    llama: Any, tokenizer: Any, circuit: Circuit
) -> None:
    arms = [BASELINE, Arm.of(circuit, 3e38, "huge")]
    assert first_tokens(llama, tokenizer, IDS, arms, stop=lambda: True) is None
    with pytest.raises(CnaError, match="huge"):
        first_tokens(llama, tokenizer, IDS, arms)
    with pytest.raises(InputError, match="no tokens"):
        first_tokens(llama, tokenizer, [], arms)
