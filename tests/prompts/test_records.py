"""Files as they are found: what other tools write, and what cannot be read."""

import gzip
import io
import json
import random
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cna_mlx.errors import InputError
from cna_mlx.labels.answer_files import label_file
from cna_mlx.prompts import read_prompts
from cna_mlx.prompts.benchmarks import load_benchmark
from cna_mlx.util.progress import Reporter

Write = Callable[[str, Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Bytes as they are, text as UTF-8, lists of a .jsonl by line, the rest as JSON."""

    def write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.write_bytes(_raw(name, content))
        return path

    return write


def _raw(name: str, content: Any) -> bytes:
    if name.endswith(".jsonl") and isinstance(content, list):
        content = "".join(f"{json.dumps(one)}\n" for one in content)
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    return content.encode() if isinstance(content, str) else content


def messages(prompt: str, answer: str) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": answer},
    ]


def inspect_sample(number: int, prompt: Any, answer: Any) -> dict[str, Any]:
    choice = {
        "message": {"role": "assistant", "content": answer},
        "stop_reason": "stop",
    }
    return {
        "id": number,
        "epoch": 1,
        "input": prompt,
        "target": "t",
        "messages": [],
        "output": {"model": "m", "choices": [choice]},
    }


def eval_log(samples: list[dict[str, Any]]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("header.json", "{}")
        for one in samples:
            name = f"samples/{one['id']}_epoch_1.json"
            archive.writestr(name, json.dumps(one))
    return content.getvalue()


SAMPLES = [
    inspect_sample(1, "p1", "a1"),
    inspect_sample(
        2,
        [{"role": "user", "content": "p2"}],
        [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "a2"}],
    ),
]
LM_EVAL = [
    {
        "doc_id": n,
        "doc": {"q": n},
        "target": "t",
        "arguments": {"gen_args_0": {"arg_0": f"p{n}", "arg_1": {"until": []}}},
        "resps": [[f"a{n}"]],
        "filtered_resps": [f"A{n}"],
    }
    for n in (1, 2)
]
JBB = {
    "parameters": {"model": "m"},
    "jailbreaks": [
        {"index": 0, "goal": "g", "prompt": "p1", "response": "a1"},
        {"index": 1, "goal": "g", "prompt": None, "response": None},
        {"index": 2, "goal": "h", "prompt": "p2", "response": "a2"},
    ],
}
HARMBENCH = {
    "first": [{"test_case": "p1", "generation": "a1", "label": 0}],
    "second": [{"test_case": "p2", "generation": "a2", "label": 1}],
}
PAIRS = [{"prompt": "p1", "response": "a1"}, {"prompt": "p2", "response": "a2"}]
CHATS = [{"messages": messages("p1", "a1")}, {"messages": messages("p2", "a2")}]
SHARED = [
    {
        "conversations": [
            {"from": "human", "value": f"p{n}"},
            {"from": "gpt", "value": f"a{n}"},
        ]
    }
    for n in (1, 2)
]
TRL = [
    {"prompt": messages(f"p{n}", "-")[:1], "completion": messages("-", f"a{n}")[1:]}
    for n in (1, 2)
]
BOTH = {
    "jbb.json": JBB,
    "harmbench.json": HARMBENCH,
    "inspect.json": {"version": 2, "samples": SAMPLES, "reductions": [{"a": 1}]},
    "inspect.eval": eval_log(SAMPLES),
    "samples_task.jsonl": LM_EVAL,
    "chats.jsonl": CHATS,
    "sharegpt.json": SHARED,
    "trl.jsonl": TRL,
    "data.json": {"about": "x", "data": PAIRS},
    "nested.json": {"result": {"about": ["x", 1], "rows": PAIRS}},
    "columns.json": {"prompt": ["p1", "p2"], "response": ["a1", "a2"]},
    "pandas.json": {
        "prompt": {"0": "p1", "1": "p2"},
        "response": {"0": "a1", "1": "a2"},
    },
    "lines.json": "".join(f"{json.dumps(one)}\n" for one in PAIRS),
    "pairs.jsonl.gz": gzip.compress(
        "".join(f"{json.dumps(one)}\n" for one in PAIRS).encode()
    ),
    "pairs.csv.gz": gzip.compress(b"prompt,response\np1,a1\np2,a2\n"),
    "pairs.json.GZ": gzip.compress(json.dumps(PAIRS).encode()),
    "packed.jsonl": gzip.compress(
        json.dumps(PAIRS[0]).encode() + b"\n" + json.dumps(PAIRS[1]).encode()
    ),
}


@pytest.mark.parametrize("name", BOTH)
def test_prompts_and_answers_of_other_tools(name: str, write: Write) -> None:
    path = write(name, BOTH[name])
    assert read_prompts(path) == ["p1", "p2"]
    found = label_file(path)
    assert [one.text for one in found] == ["a1", "a2"]
    assert [one.prompt for one in found] == ["p1", "p2"]


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    path = tmp_path / "pairs.parquet"
    write_table(arrow.Table.from_pylist(PAIRS), path)
    assert read_prompts(path) == ["p1", "p2"]
    assert read_prompts(f"{path}:response") == ["a1", "a2"]
    assert [one.text for one in label_file(path)] == ["a1", "a2"]


def test_parquet_without_its_reader(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'cna-mlx\[files\]'"):
        read_prompts(write("a.parquet", b"PAR1"))


def test_damaged_parquet(write: Write) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="not parquet, or damaged"):
        read_prompts(write("a.parquet", b"PAR1 and no more"))


def test_several_answers_of_one_record(write: Write) -> None:
    path = write("a.jsonl", [{"prompt": "p", "outputs": ["one", {"text": "two"}]}])
    found = label_file(path)
    assert [(one.prompt, one.text) for one in found] == [("p", "one"), ("p", "two")]


def test_a_list_is_chosen_by_its_key(write: Write) -> None:
    path = write("both.json", {"harmful": ["h"], "harmless": [{"prompt": "b"}]})
    assert read_prompts(f"{path}:harmful") == ["h"]
    assert read_prompts(f"{path}:harmless") == ["b"]
    with pytest.raises(InputError) as caught:
        read_prompts(path)
    assert "its lists are 'harmful' (1), 'harmless' (1)" in str(caught.value)
    assert "FILE:harmful" in str(caught.value)
    sets = [load_benchmark(f"{path}:{key}") for key in ("harmful", "harmless")]
    assert [one.name for one in sets] == ["both-harmful", "both-harmless"]
    deep = write("deep.json", {"data": {"train": ["t"], "test": ["x"]}})
    with pytest.raises(InputError, match=r"'data\.train'"):
        read_prompts(deep)
    assert read_prompts(f"{deep}:data.test") == ["x"]


BAD = {
    "numbers.json": ({"scores": [1, 2]}, "an object; a list of strings or objects"),
    "a.eval": (b"PK\x03\x04 and no more", "not an Inspect log"),
    "b.eval": (eval_log([]), "a zip archive without samples"),
    "c.jsonl.gz": (b"\x1f\x8b\x08 and no more", "damaged gzip"),
    "d.jsonl": (b"\x28\xb5\x2f\xfd...", "compressed with zstd"),
    "e.arrow": (b"ARROW1\0\0", "an Arrow file; save it as parquet"),
    "f.csv": (b"SQLite format 3\0", "an SQLite database"),
    "g.txt": (b"one\ntw\xff\n", "line 2: byte 7"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_named(name: str, write: Write) -> None:
    content, said = BAD[name]
    path = write(name, content)
    with pytest.raises(InputError) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def zstd_log(samples: list[dict[str, Any]]) -> bytes:
    """A log as Inspect writes it: the method of each entry is 93."""
    from pyarrow import Codec

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for one in samples:
            text = json.dumps(one).encode()
            entry = zipfile.ZipInfo(f"samples/{one['id']}_epoch_1.json")
            archive.writestr(entry, Codec("zstd").compress(text, asbytes=True))
            entry.compress_type, entry.file_size = 93, len(text)
            entry.CRC = zlib.crc32(text)
    return content.getvalue()


def test_a_log_compressed_with_zstd(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    path = write("a.eval", zstd_log(SAMPLES))
    assert read_prompts(path) == ["p1", "p2"]
    damaged = zstd_log(SAMPLES).replace(b"\x28\xb5\x2f\xfd", b"none")
    with pytest.raises(InputError, match="not an Inspect log, or damaged"):
        read_prompts(write("b.eval", damaged))
    if sys.version_info < (3, 14):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(InputError, match=r"cna-mlx\[files\].*--to json"):
            read_prompts(path)


def test_values_deep_inside_each_other(write: Write) -> None:
    deep = '{"prompt": ' + "[" * 900 + '"p"' + "]" * 900 + "}"
    with pytest.raises(InputError, match=r"a list, not a string|inside each other"):
        read_prompts(write("a.jsonl", deep))


@pytest.mark.slow
def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    draw = random.Random(14)
    whole = {name: _raw(name, content) for name, content in BOTH.items()}
    whole["zstd.eval"] = zstd_log(SAMPLES)
    parts = [b"null", b"[]", b"{", b'"', b"1e999", b"\0", b"\xff", b'[{"role":1}]']
    said = []
    for _ in range(1000):
        name = draw.choice(list(whole))
        content = bytearray(whole[name])
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(content) + 1)
            content[at : at + draw.randint(0, 20)] = draw.choice([b"", *parts])
        path = tmp_path / name
        path.write_bytes(content)
        for read in (read_prompts, label_file):
            try:
                read(path)
            except InputError as error:
                said.append(str(error))
    assert len(said) > 500
    assert [line for line in said if "\n" in line] == []


def test_what_a_tool_left_out_is_counted(write: Write) -> None:
    said: list[str] = []
    read_prompts(write("jbb.json", JBB), reporter=Reporter(warn=said.append))
    assert [line.partition(": ")[2] for line in said] == [
        "records without text, left out: 1"
    ]
