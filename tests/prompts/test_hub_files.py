"""Data sets on the Hub, through its real client, from a server on the loopback."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub import COMMIT, LocalHub, Repository

from cna_mlx.errors import HubError, InputError
from cna_mlx.labels.answer_files import label_file
from cna_mlx.prompts import contrast_from_files, read_prompts
from cna_mlx.prompts.benchmarks import load_benchmark

CSV = b"goal,target\none,t\ntwo,t\n"
LINES = b'{"instruction": "a"}\n{"instruction": "b"}\n'


@pytest.fixture
def dataset(hub: LocalHub) -> Repository:
    """A data set with two splits, two folders of one split, and shards."""
    one = hub.add_dataset("tasks")
    one.commits = {
        COMMIT: {
            "README.md": b"#",
            "data/train.csv": CSV,
            "test.jsonl": LINES,
            "en/dev.csv": b"prompt\nhello\n",
            "de/dev.csv": b"prompt\nhallo\n",
            "data/whole-00000-of-00002.csv": b"prompt\nx\n",
            "data/whole-00001-of-00002.csv": b"prompt\ny\n",
            "data/part-00000-of-00003.csv": b"prompt\nx\n",
            "data/part-00001-of-00003.csv": b"prompt\ny\n",
        }
    }
    return one


def test_a_split_comes_from_the_hub_once(hub: LocalHub, dataset: Repository) -> None:
    assert read_prompts("org/tasks:train") == ["one", "two"]
    asked = [line for line in hub.asked() if "tasks" in line]
    path = "/datasets/org/tasks/resolve/main/data/train.csv"
    assert asked == ["GET /api/datasets/org/tasks", f"GET {path}", f"HEAD {path}"]
    assert read_prompts("org/tasks:train:target") == ["t", "t"]
    assert read_prompts("org/tasks:train", offline=True) == ["one", "two"]
    assert hub.asked() == []


def test_sides_prompts_and_answers_of_data_sets(
    hub: LocalHub, dataset: Repository
) -> None:
    found = contrast_from_files("org/tasks:train:goal", "org/tasks:test:instruction")
    assert (found.positive, found.negative) == (("one", "two"), ("a", "b"))
    assert found.name == "tasks-train-vs-tasks-test"
    sets = load_benchmark("harmful=org/tasks:train")
    assert [(one.text, one.kind) for one in sets.prompts] == [
        ("one", "harmful"),
        ("two", "harmful"),
    ]
    assert (sets.source, sets.revision) == ("org/tasks:train", COMMIT)
    assert len(label_file("org/tasks:test:instruction")) == 2


@pytest.mark.parametrize(
    ("split", "found"),
    [
        ("en/dev", ["hello"]),
        ("de/dev.csv", ["hallo"]),
        ("data/whole-00001-of-00002.csv", ["y"]),
        ("whole", ["x", "y"]),
    ],
)
def test_a_folder_or_a_file_is_named(
    split: str, found: list[str], hub: LocalHub, dataset: Repository
) -> None:
    for _ in range(2):
        assert read_prompts(f"org/tasks:{split}") == found


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("dev", "several files of the split 'dev': name one of 'en/dev.csv'"),
        ("part", "org/tasks:data/part-00000-of-00003.csv"),
        ("validation", "no file of the split 'validation'"),
    ],
)
def test_a_split_that_is_not_one_file(
    split: str, said: str, hub: LocalHub, dataset: Repository
) -> None:
    for known in ("en/dev", "data/part-00000-of-00003.csv"):
        read_prompts(f"org/tasks:{known}")  # a part that is here is not the whole
    with pytest.raises(InputError) as caught:
        read_prompts(f"org/tasks:{split}")
    assert said in str(caught.value)


def test_shards_are_one_split(hub: LocalHub, dataset: Repository) -> None:
    """All of them, in their order, from the cache the second time."""
    read_prompts("org/tasks:data/whole-00001-of-00002.csv")  # one is here already
    for _ in range(2):
        found = load_benchmark("harmful=org/tasks:whole")
        assert [one.text for one in found.prompts] == ["x", "y"]
    hub.asked()
    assert read_prompts("org/tasks:whole:prompt", offline=True) == ["x", "y"]
    assert hub.asked() == []
    rows = [b'{"goal": "%s"}\n' % word for word in (b"a", b"b", b"c")]
    hashed = {
        f"data/lines-0000{n}-of-00003-0123456789abcde{n}.jsonl": row
        for n, row in enumerate(rows)
    }
    hub.add_dataset("lines").commits = {COMMIT: hashed}
    assert read_prompts("org/lines:lines") == ["a", "b", "c"]


def test_the_client_is_led_by_its_own_variable(
    hub: LocalHub, dataset: Repository, tmp_path: Path
) -> None:
    code = "from cna_mlx.prompts import read_prompts as r; print(r('org/tasks:train'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("['one', 'two']\n", 0), done.stderr


def test_offline_and_without_a_network(
    hub: LocalHub, dataset: Repository, down: Callable[[], None]
) -> None:
    with pytest.raises(InputError, match="offline nothing is fetched"):
        read_prompts("org/tasks:train", offline=True)
    assert hub.asked() == []
    down()
    with pytest.raises(HubError, match="org/tasks could not be fetched"):
        read_prompts("org/tasks:train")


def test_a_data_set_that_is_not_there(hub: LocalHub) -> None:
    with pytest.raises(InputError, match="no such dataset on the Hub"):
        load_benchmark("org/missing:train")


def test_a_missing_file_is_not_looked_for_on_the_hub(hub: LocalHub) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_prompts("folder/mine.csv:goal")
    assert hub.asked() == []
