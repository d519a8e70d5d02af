"""Which column holds prompts or answers, what belongs to it, and that it is said."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cna_mlx.errors import InputError
from cna_mlx.labels.answer_files import label_file
from cna_mlx.prompts import contrast_from_files, read_prompts
from cna_mlx.prompts.benchmarks import Benchmark, load_benchmark
from cna_mlx.prompts.contrasts import PromptSet
from cna_mlx.util.progress import Reporter

Rows = list[dict[str, Any]]
Write = Callable[[str, Rows], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file of records, in the format of its name."""

    def write(name: str, rows: Rows) -> str:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            if path.suffix == ".csv":
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            else:
                json.dump(rows, file)
        return str(path)

    return write


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def reporter(said: list[str]) -> Reporter:
    return Reporter(note=said.append, warn=said.append)


#: Columns of public sets, what their prompts are, and what is said of it.
SETS: dict[str, tuple[Rows, str, str]] = {
    "harmbench": (
        [{"Behavior": "Do it", "Tags": "context", "ContextString": "Text", "ID": "x"}],
        "Text\n\n---\n\nDo it",
        "prompts from 'Behavior', joined with 'ContextString' in 1 of 1",
    ),
    "strongreject": (
        [{"category": "c", "source": "s", "forbidden_prompt": "Do it"}],
        "Do it",
        "prompts from 'forbidden_prompt'",
    ),
    "simplesafety": (
        [{"id": "1", "harm_area": "h", "prompts_final": "Do it"}],
        "Do it",
        "prompts from 'prompts_final'",
    ),
    "refusal_direction": (
        [{"instruction": "Do it", "category": "c"}],
        "Do it",
        "prompts from 'instruction'",
    ),
    "alpaca": (
        [{"instruction": "Sum", "input": "1, 2", "output": "3", "text": "### Sum"}],
        "Sum\n\n1, 2",
        "prompts from 'instruction', joined with 'input' in 1 of 1; there is also "
        "'text': choose with FILE:COLUMN",
    ),
    "alpaca without input": (
        [{"instruction": "Sum", "input": "", "output": "3"}],
        "Sum",
        "prompts from 'instruction'",
    ),
    "question": ([{"question": "Why?", "answer": "So"}], "Why?", "'question'"),
    "user": ([{"user": "Why?", "assistant": "So"}], "Why?", "prompts from 'user'"),
    "rendered": (
        [{"goal": "g", "target": "t", "prompt": "[INST] g [/INST]"}],
        "[INST] g [/INST]",
        "prompts from 'prompt'; there is also 'goal': choose with FILE:COLUMN",
    ),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_columns_of_public_sets(
    name: str, suffix: str, write: Write, said: list[str], reporter: Reporter
) -> None:
    rows, prompt, note = SETS[name]
    path = write(f"a{suffix}", rows)
    assert read_prompts(path, reporter=reporter) == [prompt]
    assert note in said[0]
    said.clear()
    found = load_benchmark(path, reporter=reporter)
    assert [one.text for one in found.prompts] == [prompt]
    assert note in said[0]


def test_a_rendered_template_is_warned_about(write: Write) -> None:
    warned: list[str] = []
    path = write("a.csv", SETS["rendered"][0])
    read_prompts(path, reporter=Reporter(warn=warned.append))
    assert warned == [f"{path}: prompts with a chat template's markers in them: 1"]


@pytest.mark.parametrize("name", ["context", "system", "system_prompt"])
def test_what_may_belong_to_a_prompt_is_not_dropped_silently(
    name: str, write: Write, said: list[str], reporter: Reporter
) -> None:
    path = write("a.json", [{"prompt": "p", name: "c"}, {"prompt": "q", name: ""}])
    assert read_prompts(path, reporter=reporter) == ["p", "q"]
    assert said == [f"{path}: prompts with a {name!r}, which is not read: 1"]


def test_further_turns_and_system_messages_are_said(
    tmp_path: Path, said: list[str], reporter: Reporter
) -> None:
    roles = ("system", "user", "assistant", "user", "assistant")
    turns = [{"role": role, "content": str(n)} for n, role in enumerate(roles)]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": turns}), "utf-8")
    assert read_prompts(path, reporter=reporter) == ["1"]
    assert len(said) == 3
    assert said[0] == f"{path}: prompts from 'messages'"
    assert "conversations with more turns, which are not read: 1" in said[1]
    assert "system messages, which are not read" in said[2]
    assert [(one.prompt, one.text) for one in label_file(path)] == [("1", "2")]


def test_the_usual_column_needs_no_words(
    write: Write, said: list[str], reporter: Reporter
) -> None:
    read_prompts(write("a.csv", [{"id": 1, "prompt": "p"}]), reporter=reporter)
    read_prompts(write("b.csv", [{"id": 1, "q": "p"}]), "q", reporter=reporter)
    label_file(write("c.json", [{"prompt": "p", "text": "a"}]), reporter=reporter)
    assert said == []


ANSWERS: dict[str, tuple[dict[str, Any], str, str | None, str]] = {
    "text is the prompt": ({"text": "P", "response": "A"}, "A", "P", "'response'"),
    "text is the answer": ({"prompt": "P", "text": "A"}, "A", "P", ""),
    "alpaca": (
        {"instruction": "I", "input": "X", "output": "A"},
        "A",
        "I\n\nX",
        "'output'",
    ),
    "generation": ({"behavior": "P", "generation": "A"}, "A", "P", "'generation'"),
    "assistant": ({"user": "P", "assistant": "A"}, "A", "P", "'assistant'"),
    "a gold answer": (
        {"question": "P", "answer": "G", "completion": "A"},
        "A",
        "P",
        "there is also 'answer'",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_is_judged_and_not_the_prompt(
    name: str, write: Write, said: list[str], reporter: Reporter
) -> None:
    record, answer, prompt, note = ANSWERS[name]
    (found,) = label_file(write("a.json", [record]), reporter=reporter)
    assert (found.text, found.prompt) == (answer, prompt)
    assert note in (said[0] if said else "")
    assert bool(said) is bool(note)


# ---------------------------------------------------------------- one column a file


def test_each_file_names_its_column(write: Write) -> None:
    goals = write("goals.csv", [{"goal": "g", "x": "y"}])
    tasks = write("tasks.json", [{"instruction": "i", "own": "o"}])
    one = contrast_from_files(goals, tasks)
    assert (one.positive, one.negative) == (("g",), ("i",))
    two = contrast_from_files(f"{goals}:x", f"{tasks}:own")
    assert (two.positive, two.negative) == (("y",), ("o",))
    assert two.name == "goals-vs-tasks"
    # --column is for the file without its own
    three = contrast_from_files(goals, f"{tasks}:own", column="x")
    assert (three.positive, three.negative) == (("y",), ("o",))
    with pytest.raises(InputError, match="FILE:COLUMN"):
        contrast_from_files(goals, tasks, column="x")


def test_both_sides_of_one_file(write: Write) -> None:
    path = write("pairs.csv", [{"harmful": "h", "harmless": "b"}])
    found = contrast_from_files(f"{path}:harmful", f"{path}:harmless")
    assert (found.positive, found.negative) == (("h",), ("b",))
    assert found.name == "harmful-vs-harmless"


def test_a_column_after_a_prefix(write: Write) -> None:
    path = write("a.csv", [{"q": "one", "prompt": "no"}])
    found = load_benchmark(f"harmful={path}:q")
    assert [(one.text, one.kind) for one in found.prompts] == [("one", "harmful")]


def test_a_file_with_a_colon_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a:b").write_text("whole name\n", "utf-8")
    (tmp_path / "a").write_text("no\n", "utf-8")
    assert read_prompts(tmp_path / "a:b") == ["whole name"]


# ---------------------------------------------------------------------- duplicates


def test_repeats_are_left_out_with_a_count(
    tmp_path: Path, said: list[str], reporter: Reporter
) -> None:
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("x\ny\nx \nx\n", "utf-8")
    other.write_text("z\n", "utf-8")
    found = contrast_from_files(path, other, reporter=reporter)
    assert found.positive == ("x", "y")
    first = f"{path}, line 3, which equals {path}, line 1"
    assert said == [f"2 repeated prompts left out; the first is {first}"]
    said.clear()
    assert len(load_benchmark(str(path), reporter=reporter).prompts) == 2
    assert said == [f"2 repeated prompts left out; the first is {first}"]


def test_repeats_at_hand_are_left_out() -> None:
    assert PromptSet.from_prompts(["a", "b", "a "], ["c"]).positive == ("a", "b")
    assert len(Benchmark.from_prompts(["a", "b", "a"]).prompts) == 2
    with pytest.raises(InputError, match="same prompt"):
        PromptSet.from_prompts(["a", "b"], ["b"])


# ------------------------------------------------------------------------- limits


def test_a_limit_spreads_over_each_side() -> None:
    found = PromptSet.from_prompts(list("abcdefgh"), list("ijkl")).limited(4)
    assert (found.positive, found.negative) == (tuple("aceg"), tuple("ijkl"))
    assert found.limited(None) == found.limited(9) == found


# ------------------------------------------------------------------------- XSTest


def test_the_older_file_of_xstest(write: Write) -> None:
    types = ("homonyms", "contrast_homonyms", "privacy_public")
    rows = [
        {
            "id_v1": n,
            "id_v2": "" if n == 1 else n + 10,
            "type": type_,
            "prompt": f"p{n}",
        }
        for n, type_ in enumerate(types)
    ]
    found = load_benchmark(write("old.csv", rows))
    assert [one.kind for one in found.prompts] == ["benign", "harmful", "benign"]
    assert [one.id for one in found.prompts] == ["old-10", "old-1", "old-12"]
    same = load_benchmark(write("old.json", rows))
    assert [one.kind for one in same.prompts] == ["benign", "harmful", "benign"]


def test_an_id_that_equals_a_number_of_another_is_kept_apart(write: Write) -> None:
    rows = [
        {"id": 2, "type": "homonyms", "prompt": "p"},
        {"id": "", "type": "homonyms", "prompt": "q"},
    ]
    found = load_benchmark(write("a.csv", rows))
    assert [one.id for one in found.prompts] == ["a-2", "a-row-2"]
