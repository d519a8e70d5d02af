"""A model that is steered belongs to one thread."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import pytest

from cna_mlx.circuit import Circuit
from cna_mlx.errors import ThreadError
from cna_mlx.steering.interventions import steered


def in_another_thread(work: Callable[[], object]) -> object:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_another_thread_may_neither_call_nor_steer(
    llama: Any, circuit: Circuit
) -> None:
    def steer() -> None:
        with steered(llama, circuit, 2.0):
            raise AssertionError("it was steered twice")

    ids = mx.array([[1, 2, 3]])
    with steered(llama, circuit):
        before = [layer.mlp for layer in llama.model.layers]
        for work in (lambda: llama(ids), steer):
            with pytest.raises(ThreadError, match="another thread"):
                in_another_thread(work)
        assert [layer.mlp for layer in llama.model.layers] == before
        mx.eval(llama(ids))  # its own thread goes on


def test_threads_take_turns(llama: Any, circuit: Circuit) -> None:
    def steer() -> bool:
        with steered(llama, circuit):
            return True

    with steered(llama, circuit):
        pass
    assert in_another_thread(steer)
    assert steer()
