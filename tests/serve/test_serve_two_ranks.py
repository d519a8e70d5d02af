"""A server of two ranks, over loopback: as one machine answers."""

import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from commandline import Outcome
from marks import slow
from rank_processes import ended, start
from served import served

from cna_mlx.circuit import Circuit

Run = Callable[..., Outcome]

ASKED = [
    ("demo", {}),
    ("demo@0", {}),
    ("demo@0.5", {"temperature": 0.7, "seed": 3}),
    ("demo@mean", {"stop": ["circle"]}),
]


def answers(web: httpx.Client) -> Any:
    """Answers of several arms at once, scores, words and first words."""
    messages = [{"role": "user", "content": "How do I cast a sleep spell?"}]
    names = [name for name, _ in ASKED]

    def ask(name: str, options: dict[str, Any]) -> Any:
        body = {"model": name, "messages": messages, "gauge": True, **options}
        (choice,) = web.post("/v1/chat/completions", json=body).json()["choices"]
        return choice["message"]["content"], choice["cna"]["gauge"]

    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(ask, names, (options for _, options in ASKED)))
    scored = {"model": "demo@0", "prompt": "A wand", "echo": True, "max_tokens": 1}
    (choice,) = web.post("/v1/completions", json={**scored, "logprobs": 0}).json()[
        "choices"
    ]
    words = web.post("/cna/words", json={"model": "demo", "messages": messages}).json()
    first = {"models": names, "messages": messages, "count": 2}
    tokens = web.post("/cna/first-words", json=first).json()["tokens"]
    numbers = [
        *(gauge for _, gauge in texts),
        *choice["logprobs"]["token_logprobs"][1:],
        *(word["gauge"] for word in words["words"]),
        *(one for token in tokens for one in token["probabilities"].values()),
    ]
    return [text for text, _ in texts] + [choice["text"]], numbers


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the ranks: a cache of the test's own."""
    monkeypatch.delenv("CNA_MLX_DEBUG", raising=False)
    return {"CNA_MLX_CACHE": str(tmp_path / "cache")}


@pytest.mark.parametrize("ending", ["ctrl-c", slow("death")])
def test_a_server_of_two_ranks_answers_as_that_of_one(
    ending: str,
    command: Run,
    demo: tuple[Any, Any],
    places: dict[str, str],
    tmp_path: Path,
) -> None:
    file = str(tmp_path / "magic.json")
    assert command("discover", "demo", "--no-expect", "-o", file).code == 0
    serve = ("-m", "cna_mlx", "serve", "demo", "--circuit", file, "--port", "0")
    processes = start(serve, 2, **places)
    try:
        assert processes[0].stdout is not None
        address = re.search(r"http://\S+(?=/v1)", processes[0].stdout.readline())
        assert address is not None
        with httpx.Client(base_url=address[0], timeout=60) as web:
            texts, numbers = answers(web)
        if ending == "death":
            processes[1].kill()
        else:
            processes[0].send_signal(signal.SIGINT)
    finally:
        first, other = ended(processes)
    if ending == "death":
        assert first.code == 1
        assert first.err.splitlines()[-1].startswith("cna-mlx: rank 1 is gone")
    else:
        assert (first.code, other.code, other.err) == (0, 0, "")
    with (
        served(*demo, {"magic": Circuit.load(file)}) as one,
        httpx.Client(base_url=one.url, timeout=60) as web,
    ):
        right = answers(web)
    assert texts == right[0]
    assert numbers == pytest.approx(right[1], abs=1e-3)
