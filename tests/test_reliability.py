"""Every door for files, with the inputs that once broke one, and with mutated ones."""

from pathlib import Path
from typing import Any

import pytest
from fuzzing import CORPUS, Door, doors

NAMES = (
    *(
        "circuit",
        "cached circuit",
        "universal",
        "causal",
        "openings",
        "run",
        "samples",
        "statistics",
    ),
    *("direction", "run's circuit", "judgements", "transcript", "config"),
    *("tokenizer_config", "header", "template", "prompts txt", "prompts json"),
    *("prompts jsonl", "prompts csv", "answers json", "answers jsonl", "answers csv"),
)


@pytest.fixture(name="all_doors", scope="module")
def fixture_all_doors(
    tmp_path_factory: pytest.TempPathFactory, tiny: tuple[Any, Any], circuit_text: str
) -> dict[str, Door]:
    return doors(tmp_path_factory.mktemp("doors"), tiny, circuit_text)


def test_every_door_is_tried(all_doors: dict[str, Door]) -> None:
    assert tuple(sorted(all_doors)) == tuple(sorted(NAMES))
    assert {path.name for path in CORPUS.iterdir()} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_is_read(all_doors: dict[str, Door], name: str) -> None:
    for content in all_doors[name].seeds:
        all_doors[name].read(content)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: path.name)
def test_what_broke_a_door_once(all_doors: dict[str, Door], path: Path) -> None:
    assert all_doors[path.parent.name].find(path.read_bytes()) is None


def find_in(door: Door, count: int, seed: int) -> list[str]:
    found = ((one, door.find(one)) for one in door.inputs(count, seed))
    return [f"{what}: {content[:300]!r}" for content, what in found if what]


@pytest.mark.parametrize("name", NAMES)
def test_mutated_files(all_doors: dict[str, Door], name: str) -> None:
    assert find_in(all_doors[name], 10, seed=1) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_more_mutated_files(all_doors: dict[str, Door], name: str) -> None:
    count = 300 if name == "run's circuit" else 1000  # each writes a report
    assert find_in(all_doors[name], count, seed=2) == []


def test_a_door_that_fails_is_found() -> None:
    def broken(content: bytes) -> None:
        if b"4" in content:
            raise KeyError(content)

    door = Door((b"[1, 2, 3]",), broken)
    assert "KeyError" in str(door.find(b"4"))
    inputs = list(door.inputs(50, seed=0))
    assert inputs == list(door.inputs(50, seed=0))
    assert len(set(inputs)) > 25
