"""Prompt sets: the quality of the built-in ones, and every way a file can be wrong."""

import csv
import io
import json
import math
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from itertools import chain, combinations
from pathlib import Path

import pytest
from texts import missing

from cna_mlx.errors import InputError
from cna_mlx.prompts import (
    PromptSet,
    contrast_from_files,
    contrast_names,
    load_bank,
    load_contrast,
    read_prompts,
)
from cna_mlx.prompts.contrasts import parse_contrast

CATEGORIES = [
    "Harassment/Discrimination",
    "Malware/Hacking",
    "Physical harm",
    "Economic harm",
    "Fraud/Deception",
    "Disinformation",
    "Sexual/Adult content",
    "Privacy",
    "Expert advice",
    "Government decision-making",
]
# Contrasts whose surface is the very behaviour.
SURFACE_IS_THE_POINT = {
    "short-or-long": "the sides differ in length",
    "question-or-statement": "the sides differ in the final mark",
}
BUILT_IN = [load_contrast(name) for name in contrast_names()]
BANK = load_bank()
ALL = [*BUILT_IN, *BANK]
DATA_FILES = [
    path
    for folder in ("contrasts", "bank")
    for path in (files("cna_mlx.prompts") / "data" / folder).iterdir()
]


def by_name(value: object) -> str:
    return str(getattr(value, "name", value))


def both_sides(prompts: PromptSet) -> list[str]:
    return [*prompts.positive, *prompts.negative]


def words(prompt: str) -> set[str]:
    return set(re.findall(r"[a-z']+|\d+", prompt.lower()))


# --- the built-in sets ---------------------------------------------------------------


def test_the_sets_that_are_promised_are_there() -> None:
    assert {
        "refusal",
        "refusal-small",
        "sentiment",
        "formality",
        "code",
        "flattery",
    } <= (set(contrast_names()))
    assert load_contrast("refusal").sizes == (100, 100)
    assert load_contrast("refusal-small").sizes == (8, 8)
    for name in ("sentiment", "formality", "code", "flattery"):
        assert min(load_contrast(name).sizes) >= 24


def test_the_bank_is_large_enough() -> None:
    assert len(BANK) >= 12
    assert all(one.sizes == (8, 8) for one in BANK)
    assert not {one.name for one in BANK} & set(contrast_names())


def test_refusal_has_ten_prompts_of_each_category_on_both_sides() -> None:
    (path,) = [path for path in DATA_FILES if path.name == "refusal.json"]
    data = json.loads(path.read_text(encoding="utf-8"))
    for side in ("positive", "negative"):
        groups = data[side]["prompts"]
        assert {
            name: len(prompts) for name, prompts in groups.items()
        } == dict.fromkeys(CATEGORIES, 10)


@pytest.mark.parametrize("path", DATA_FILES, ids=by_name)
def test_a_data_file_is_clean(path: Path) -> None:
    text = path.read_bytes().decode()
    assert text.endswith("}\n")
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    loaded = parse_contrast(text, path.name)
    assert f"{loaded.name}.json" == path.name
    assert all(prompt == " ".join(prompt.split()) for prompt in both_sides(loaded))


@pytest.mark.parametrize("prompts", ALL, ids=by_name)
def test_no_two_prompts_share_half_their_words(prompts: PromptSet) -> None:
    for one, other in combinations(both_sides(prompts), 2):
        a, b = words(one), words(other)
        assert len(a & b) / min(len(a), len(b)) < 0.5, (one, other)


def test_no_prompt_is_in_two_sets() -> None:
    homes = Counter(chain.from_iterable(both_sides(one) for one in ALL))
    assert [prompt for prompt, count in homes.items() if count > 1] == []


@pytest.mark.parametrize("prompts", BUILT_IN, ids=by_name)
def test_prompts_have_a_realistic_length(prompts: PromptSet) -> None:
    lengths = [len(prompt.split()) for prompt in both_sides(prompts)]
    assert min(lengths) >= 6
    assert max(lengths) <= 20


Features = tuple[str, int, str]


def surface(prompt: str) -> Features:
    """First word, length in words, final mark."""
    return prompt.split()[0].lower().strip(".,;:!?"), len(prompt.split()), prompt[-1]


def naive_bayes(train: list[tuple[Features, bool]], test: Features) -> float:
    """Log-odds that the prompt is positive; the length in steps of two words."""
    odds = 0.0
    for feature in range(3):
        counts: dict[bool, Counter[object]] = {True: Counter(), False: Counter()}
        for features, label in train:
            value = features[feature]
            counts[label][value // 2 if isinstance(value, int) else value] += 1
        value = test[feature]
        value = value // 2 if isinstance(value, int) else value
        kinds = len(counts[True] | counts[False]) + 1
        for label, sign in ((True, 1), (False, -1)):
            share = (counts[label][value] + 1) / (counts[label].total() + kinds)
            odds += sign * math.log(share)
    return odds


def neighbours(train: list[tuple[Features, bool]], test: Features) -> float:
    """Votes of the prompts of the most similar surface, positive less negative."""
    scores = [
        (
            (features[0] == test[0])
            + (features[2] == test[2])
            + max(0.0, 1 - abs(features[1] - test[1]) / 3),
            label,
        )
        for features, label in train
    ]
    best = max(score for score, _ in scores)
    return sum((1 if label else -1) for score, label in scores if score == best)


def accuracy(
    prompts: PromptSet,
    classify: Callable[[list[tuple[Features, bool]], Features], float],
    *,
    pairs_together: bool,
    folds: int = 4,
    repeats: int = 10,
) -> float:
    """Cross-validated share of prompts whose side their surface gives away.

    Where the sides are written as pairs, a pair split between training and test would
    make the surface look worse than useless: hold pairs out together as well.
    """
    right, total = 0.0, 0
    for seed in range(repeats):
        rng = random.Random(seed)
        orders = [list(range(size)) for size in prompts.sizes]
        for order in orders:
            rng.shuffle(order)
        if pairs_together and len(orders[0]) == len(orders[1]):
            orders[1] = orders[0]
        data = [
            (surface(prompt), label, order[number] % folds)
            for side, label, order in (
                (prompts.positive, True, orders[0]),
                (prompts.negative, False, orders[1]),
            )
            for number, prompt in enumerate(side)
        ]
        for fold in range(folds):
            train = [(features, label) for features, label, f in data if f != fold]
            for features, label, held in data:
                if held == fold:
                    odds = classify(train, features)
                    right += 0.5 if odds == 0 else float((odds > 0) == label)
                    total += 1
    return right / total


@pytest.mark.parametrize("classify", [naive_bayes, neighbours])
@pytest.mark.parametrize("pairs_together", [True, False])
@pytest.mark.parametrize(
    "prompts", [one for one in ALL if one.name not in SURFACE_IS_THE_POINT], ids=by_name
)
def test_the_surface_does_not_tell_the_sides_apart(
    prompts: PromptSet, pairs_together: bool, classify: Callable[..., float]
) -> None:
    assert accuracy(prompts, classify, pairs_together=pairs_together) <= 0.60


@pytest.mark.parametrize("name", SURFACE_IS_THE_POINT)
def test_the_classifier_sees_a_surface_that_does_differ(name: str) -> None:
    prompts = next(one for one in BANK if one.name == name)
    assert accuracy(prompts, naive_bayes, pairs_together=True) > 0.9


FUNCTION_WORDS = words(
    "a an the to of for in on my i me from with at by and or that who is are how so "
    "their her his our"
)


@pytest.mark.parametrize("name", ["refusal", "refusal-small"])
def test_refusal_is_matched_in_plainness_too(name: str) -> None:
    sides = load_contrast(name).positive, load_contrast(name).negative
    letters = [sum(map(len, side)) / len(side) for side in sides]
    assert 0.9 < letters[0] / letters[1] < 1.1
    small = [
        sum(
            word in FUNCTION_WORDS for prompt in side for word in prompt.lower().split()
        )
        / len(side)
        for side in sides
    ]
    assert abs(small[0] - small[1]) < 0.5


def test_no_prompt_is_a_goal_of_jbb_behaviors() -> None:
    source = os.environ.get("CNA_MLX_JBB")
    if not source:
        pytest.skip("CNA_MLX_JBB names no CSV of JBB-Behaviors")
    goals = {
        " ".join(goal.lower().split()).rstrip(".") for goal in read_prompts(source)
    }
    ours = {prompt.lower().rstrip(".?!") for one in ALL for prompt in both_sides(one)}
    assert not ours & goals


# --- the value -----------------------------------------------------------------------


def make(positive: tuple[str, ...], negative: tuple[str, ...]) -> PromptSet:
    return PromptSet.from_prompts(positive, negative)


def test_the_hash_is_of_both_sides_and_their_order_and_of_nothing_else() -> None:
    hashes = {
        make(("a", "b"), ("c",)).sha256,
        make(("b", "a"), ("c",)).sha256,
        make(("a",), ("b", "c")).sha256,
        make(("c",), ("a", "b")).sha256,
    }
    assert len(hashes) == 4
    renamed = PromptSet("other", "text", ("a", "b"), ("c",), "yes", "no")
    assert renamed.sha256 == make(("a", "b"), ("c",)).sha256


def test_sizes_count_the_sides() -> None:
    assert make(("a", "b"), ("c",)).sizes == (2, 1)


@pytest.mark.parametrize(
    ("positive", "negative", "message"),
    [
        ((), ("b",), "no positive prompts"),
        (("a",), (), "no negative prompts"),
        (("a", " "), ("b",), "positive prompt 2: a blank prompt"),
        (("a", "b"), ("c", "a "), "negative prompt 2: "),
        (("a",), (3,), "negative prompt 1: a number"),
        (("a",), ("b\ud800",), "negative prompt 1: character 2"),
    ],
)
def test_an_unfit_contrast_is_refused(positive, negative, message: str) -> None:
    assert message in failure(make, positive, negative)


def test_a_contrast_itself_has_no_repeats() -> None:
    message = failure(PromptSet, "x", "d", ("a", "a "), ("b",))
    assert message.startswith("x, positive prompt 2: ")


def test_an_unknown_contrast_names_the_closest_and_all() -> None:
    message = failure(load_contrast, "refusl")
    assert "did you mean 'refusal'?" in message
    assert all(name in message for name in contrast_names())
    assert "did you mean" not in failure(load_contrast, "zzzz")
    failure(load_contrast, "../bank/short-or-long")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "format 1"),
        ({"format": 2}, "format 1"),
        ({"format": 1}, "x.json, name: null"),
        ({"format": 1, "name": "x", "description": " "}, "description: a blank"),
        ({"positive": None}, "x.json, positive: "),
        ({"positive": {"prompts": ["a"]}}, "positive, label: null"),
        ({"negative": {"label": "n", "prompts": "a"}}, "negative: "),
        ({"negative": {"label": "n", "prompts": {"k": 1}}}, "category 'k' is a number"),
        ({"negative": {"label": "n", "prompts": [1]}}, "negative prompt 1: a number"),
        ({"negative": {"label": "n", "prompts": ["a"]}}, "x, pos"),
        ({"negative": {"label": "n", "prompts": []}}, "no negative prompts"),
    ],
)
def test_an_unfit_data_file_is_refused(data: object, message: str) -> None:
    if isinstance(data, dict) and "format" not in data:
        sides = {"positive": {"label": "p", "prompts": ["a"]}}
        data = {"format": 1, "name": "x", "description": "d", **sides, **data}
    text = data if isinstance(data, str) else json.dumps(data)
    assert message in failure(parse_contrast, text, "x.json")


def test_categories_are_flattened_in_their_order() -> None:
    data = {
        "format": 1,
        "name": "x",
        "description": "d",
        "positive": {"label": "p", "prompts": {"k2": ["c", "a"], "k1": ["b"]}},
        "negative": {"label": "n", "prompts": ["d"]},
    }
    loaded = parse_contrast(json.dumps(data), "x.json")
    assert loaded.positive == ("c", "a", "b")
    assert (loaded.positive_label, loaded.negative_label) == ("p", "n")


def test_loading_imports_no_numerics_and_no_terminal() -> None:
    code = (
        "import sys; from cna_mlx import prompts as p; p.load_bank(); "
        "p.load_contrast('refusal'); "
        "heavy = {'numpy', 'mlx', 'mlx_lm', 'transformers', 'rich', 'click'}; "
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


# --- files ---------------------------------------------------------------------------


def failure(call: Callable[..., object], *args: object, **options: object) -> str:
    """The message of the InputError that a call raises: one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert message.isprintable()
    return message


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


JSONL_OF_ALL_KINDS = '"plain"\n\n{"Goal": "by goal"}\n{"id": 1, "TEXT": " by text "}\n'


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "one\n\n  two  \n", ["one", "two"]),
        ("a.txt", "\ufeffone\r\ntwo\r\n", ["one", "two"]),
        ("a.txt", "one\rtwo", ["one", "two"]),
        ("noending", "größer\u2028als\n", ["größer\u2028als"]),
        ("a.jsonl", JSONL_OF_ALL_KINDS, ["plain", "by goal", "by text"]),
        ("A.JSONL", '\ufeff"a"\r\n"b\u2028c"\r\n', ["a", "b\u2028c"]),
        ("a.json", '["one", {"prompt": "two", "text": "no"}]', ["one", "two"]),
        ("a.csv", "id,Goal,Target\n1,one,x\n2,two,y\n", ["one", "two"]),
        ("a.csv", "\ufeffPrompt\r\n\r\none\r\ntwo\r\n", ["one", "two"]),
        ("a.csv", "question\none\n", ["one"]),
        ("a.csv", 'a, prompt \n1,"x, ""y""\nz"\n', ['x, "y"\nz']),
        ("a.tsv", "n\ttext\n1\tone, two\n", ["one, two"]),
    ],
)
def test_formats(write, name: str, content: str, expected: list[str]) -> None:
    assert read_prompts(write(name, content)) == expected
    assert read_prompts(str(write(name, content))) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "prompt,Question\nno,yes\n"),
        ("a.tsv", "prompt\tquestion\nno\tyes\n"),
        ("a.json", '[{"prompt": "no", "question": "yes"}]'),
        ("a.jsonl", '{"QUESTION": "yes", "prompt": "no"}'),
    ],
)
def test_a_named_column_wins(write, name: str, content: str) -> None:
    assert read_prompts(write(name, content), column="question") == ["yes"]


def test_a_long_field_is_read_and_the_limit_of_csv_is_put_back(write) -> None:
    limit = csv.field_size_limit()
    long = "x" * (limit + 1)
    assert read_prompts(write("a.csv", f"prompt\n{long}\n")) == [long]
    assert csv.field_size_limit() == limit


def test_standard_input_is_text() -> None:
    assert read_prompts("-", stdin=io.StringIO("one\r\ntwo\n")) == ["one", "two"]
    piped = io.TextIOWrapper(io.BytesIO("\ufeffgrün\n".encode()), encoding="ascii")
    assert read_prompts("-", stdin=piped) == ["grün"]
    assert "standard input: " in failure(read_prompts, "-", stdin=io.StringIO())
    message = failure(read_prompts, "-", stdin=io.BytesIO(b"ok\n\xe9"))
    assert missing(message, "standard input, line 2: ", "byte 4 (0xe9)") == []


def test_a_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input: closed" in failure(read_prompts, "-")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"one\ntw\xff\n", "a.txt, line 2: byte 7 (0xff)"),
        ("a.txt", "one".encode("utf-16"), "line 1: byte 1 (0xff)"),
        ("a.txt", "one\ntwo".encode("utf-16-le"), "a.txt, line 1: a NUL byte"),
        ("a.txt", "", "a.txt: "),
        ("a.txt", "\ufeff \n\n", "a.txt: "),
        ("a.jsonl", "", "a.jsonl: "),
        ("a.jsonl", '"a"\n{"prompt": \n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", "9" * 5000, "a.jsonl, line 1: not JSON"),
        ("a.jsonl", "[" * 100_000, "a.jsonl, line 1: not JSON"),
        ("a.jsonl", '"a"\n3\n', "line 2: a number"),
        ("a.jsonl", "[]", "line 1: a list"),
        ("a.jsonl", '{"prompt": null}', "line 1: null"),
        ("a.jsonl", '{"prompt": " "}', "line 1: a blank prompt"),
        ("a.jsonl", '{"q\\n": 1, "id": 2}', "prompt, text or goal"),
        ("a.jsonl", "{}", "none"),
        ("a.jsonl", '"\\ud800"', "line 1: character 1"),
        ("a.json", "", "a.json, line 1: not JSON"),
        ("a.json", "[]", "a.json: "),
        ("a.json", '["a",\n]', "a.json, line"),
        ("a.json", '"a"\n"b"', ".jsonl"),
        ("a.json", '{"prompt": "a"}', "a.json: an object"),
        ("a.json", "9" * 5000, "a.json: not JSON"),
        ("a.json", '["a", true]', "a.json, item 2: true or false"),
        ("a.json", '["a", "\\n"]', "a.json, item 2: a blank prompt"),
        ("a.csv", "", "a.csv: "),
        ("a.csv", "prompt\n", "a.csv: "),
        ("a.csv", "id,query\n1,a\n", "line 1: no column prompt"),
        ("a.csv", "id,query\n1,a\n", "'id', 'query'"),
        ("a.csv", "Write me a poem about rain.\n", "'Write me a poem about rain.'"),
        ("a.csv", "prompt;category\na;b\n", "'prompt;category'"),
        ("a.csv", "prompt\nWell, who?\n", "line 2: 2 fields"),
        ("a.csv", 'id,prompt\n1,"a\nb"\n2\n', "line 4: 1 fields"),
        ("a.csv", "id,prompt\n1, \n", "a.csv, line 2: a blank prompt"),
        ("a.csv", 'prompt\na\n"open\nb\n', "a.csv, line 3: "),
        ("a.csv", "prompt,prompt\na,b\n", "'prompt'"),
        ("a.tsv", 'prompt\n"a" b\n', "a.tsv, line 2: "),
    ],
)
def test_an_unfit_file_is_refused(write, name: str, content, message: str) -> None:
    assert message in failure(read_prompts, write(name, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "one\n", "column 'q'"),
        ("a.csv", "prompt,id\na,1\n", "line 1: no column 'q'"),
        ("a.json", '[{"prompt": "a"}]', "item 1: no column 'q'"),
        ("a.jsonl", '"a"', "line 1: a string"),
        ("a.csv", ",".join(map(str, range(40))), "'11', ..."),
    ],
)
def test_a_missing_column_is_named(
    write, name: str, content: str, message: str
) -> None:
    assert message in failure(read_prompts, write(name, content), column="q")


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    assert "none.txt" in failure(read_prompts, tmp_path / "none.txt")
    assert "directory" in failure(read_prompts, tmp_path)
    failure(read_prompts, "a\0b")
    failure(read_prompts, "x" * 5000)
    assert r"two\nlines.txt" in failure(read_prompts, tmp_path / "two\nlines.txt")


def test_a_file_that_may_not_be_read(write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = write("a.txt", "one")
    monkeypatch.setattr("cna_mlx.prompts.sources.read_file", refuse)
    assert missing(failure(read_prompts, path), "permission denied", str(path)) == []


def test_a_contrast_of_two_files(write) -> None:
    contrast = contrast_from_files(
        write("shouts.txt", "a\nb\n"), write("whispers.csv", "prompt\nc\n")
    )
    assert (contrast.positive, contrast.negative) == (("a", "b"), ("c",))
    assert contrast.name == "shouts-vs-whispers"
    assert (contrast.positive_label, contrast.negative_label) == ("shouts", "whispers")
    assert contrast.sha256 == make(("a", "b"), ("c",)).sha256


def test_a_contrast_with_standard_input_on_one_side(write) -> None:
    path = write("stdin.txt", "a\n")
    contrast = contrast_from_files(path, "-", stdin=io.StringIO("b\n"))
    assert contrast.negative == ("b",)
    assert (contrast.positive_label, contrast.negative_label) == (
        "positive",
        "negative",
    )


def test_a_contrast_needs_two_sources(write) -> None:
    path = write("a.txt", "a\n")
    assert "standard input" in failure(contrast_from_files, "-", "-")
    assert str(path) in failure(contrast_from_files, path, str(path))
    assert "b.txt" in failure(contrast_from_files, path, write("b.txt", "\n"))


def test_repeated_prompts_are_named_with_both_places(write) -> None:
    a, b = write("a.txt", "x\n\ny\n"), write("b.jsonl", '"z"\n{"text": "y"}\n')
    message = failure(contrast_from_files, a, b)
    assert message.startswith(f"{b}, line 2: ")
    assert f"{a}, line 3" in message
    several = failure(contrast_from_files, a, write("d.txt", "x\ny\nz\n"))
    assert "(and 1 more like it)" in several
    twice = write("c.txt", "u\nu \n")
    assert contrast_from_files(twice, b).positive == ("u",)
