"""Models that two ranks hold are, together, the whole ones."""

from typing import Any

import pytest
from rank_processes import ended, script, start

#: Families whose mlx-lm model can be cut; those that run by default come first.
FAST = ("llama:float32", "qwen3:4-bit", "qwen3_moe:float32", "gpt_oss:float32")
KINDS = (
    *("llama-biases:float32", "llama-sliding:float32", "qwen2:bfloat16"),
    *("ministral3:float32", "qwen3_5:float32", "qwen3_5_moe:float32"),
    *("glm4_moe:float32", "qwen3_moe:4-bit-float32", "gpt_oss:mxfp4-float32"),
)


def compared(kinds: tuple[str, ...]) -> dict[str, Any]:
    first, other = ended(start([script("sharded_models.py"), *kinds]))
    assert (first.code, other.code) == (0, 0), first.err + other.err
    assert other.out == ""
    found: dict[str, Any] = first.data
    return found


def check(kind: str, found: dict[str, Any]) -> None:
    """Equal but for rounding; the texts but for near ties."""
    tolerance = 1e-5 if kind.endswith("float32") else 0.1
    assert found["same"] == [True] * 4  # widths, experts, fingerprint, quantization
    for name in ("logits", "one row", "activations", "gauge", "deltas"):
        assert found[name] < tolerance, (kind, name, found)
    assert found["norms"] < 1e-6
    assert found["columns"] == 0
    assert found["missing"] <= (0 if kind.endswith("float32") else 2)
    assert all(gap < tolerance for gap in found["ties"]), found
    assert found["held"] < 0.7  # embeddings and routers are on both


def test_two_ranks_are_one_model() -> None:
    found = compared(FAST)
    for kind in FAST:
        check(kind, found[kind])
    mixtral, gemma, heads, width = found["refused"]
    for text, name in ((mixtral, "mixtral"), (gemma, "gemma2")):
        assert text.startswith(f"{name}: mlx-lm cannot share out models of type")
        assert "Llama" in text
    assert heads.startswith("llama cannot be shared out evenly among 2 ranks: num_")
    assert "129" in width


@pytest.mark.slow
def test_every_family_that_can_be_shared_out() -> None:
    found = compared(KINDS)
    for kind in KINDS:
        check(kind, found[kind])
