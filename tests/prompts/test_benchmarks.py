"""Sets of evaluation prompts: from the Hub, from files, and every way to be wrong."""

import csv
import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hub import COMMIT, LATER, LocalHub, Repository
from huggingface_hub import constants
from texts import missing

from cna_mlx.errors import CnaError, HubError, InputError
from cna_mlx.prompts import load_contrast
from cna_mlx.prompts.benchmarks import Benchmark, load_benchmark
from cna_mlx.prompts.published import PUBLISHED

JBB = ["Index", "Goal", "Target", "Behavior", "Category", "Source"]
XSTEST = ["id", "prompt", "type", "label", "focus", "note"]
HARMFUL, BENIGN = "data/harmful-behaviors.csv", "data/benign-behaviors.csv"
PROMPTS = "xstest_prompts.csv"
PIN = PUBLISHED["jbb"].revision


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A CSV as pandas or a hand writes it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def jbb(what: str, count: int = 6) -> str:
    """A file with the columns of JBB-Behaviors."""
    kinds = ("Fraud/Deception", "Privacy")
    rows = [
        [str(n), f'Do "{what}", as {n}', f"Sure {n}", f"B{n}", kinds[n % 2], "Original"]
        for n in range(count)
    ]
    return table(JBB, rows)


def xstest() -> str:
    """A file with the columns of XSTest."""
    types = ["homonyms", "contrast_homonyms", "definitions", "contrast_definitions"]
    rows = [
        [str(n), f"How to kill process {n}?", kind, "", "kill", ""]
        for n, kind in enumerate(types, start=1)
    ]
    return table(XSTEST, rows)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def dataset(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """JBB-Behaviors as it is published, on the local Hub."""
    files = {HARMFUL: jbb("harm"), BENIGN: jbb("good"), "README.md": "#"}
    one = hub.add_dataset("JBB-Behaviors")
    one.commits = {PIN: {name: text.encode() for name, text in files.items()}}
    one.branches = {"main": PIN}
    for name, file in (("jbb", HARMFUL), ("jbb-benign", BENIGN)):
        known = replace(PUBLISHED[name], sha256=digest(files[file]))
        monkeypatch.setitem(PUBLISHED, name, known)
    return one


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    def write(name: str, content: str) -> str:
        path = tmp_path / name
        path.write_text(content, "utf-8")
        return str(path)

    return write


def refusal(kind: type[CnaError], text: str, **options) -> str:
    """The one line that a request ends with."""
    with pytest.raises(kind) as caught:
        load_benchmark(text, **options)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert "\n" not in message
    return message


def kinds(found: Benchmark) -> list[str]:
    return [prompt.kind for prompt in found.prompts]


# ------------------------------------------------------------------------- the Hub


def test_jbb_comes_from_the_hub_once(hub: LocalHub, dataset: Repository) -> None:
    first = load_benchmark("jbb")
    path = f"/datasets/JailbreakBench/JBB-Behaviors/resolve/{PIN}/{HARMFUL}"
    asked = [line for line in hub.asked() if "JBB" in line]
    assert asked == [f"GET {path}", f"HEAD {path}"]
    assert first.name == "jbb"
    assert first.revision == PIN
    assert first.source == f"JailbreakBench/JBB-Behaviors, {HARMFUL}"
    assert first.is_published
    assert first.note is None
    assert first.file_sha256 == digest(jbb("harm"))
    assert first.licence == "MIT"
    assert "JailbreakBench" in str(first.citation)
    assert kinds(first) == ["harmful"] * 6
    assert first.prompts[1].text == 'Do "harm", as 1'
    assert first.prompts[1].id == "jbb-1"
    assert first.prompts[1].category == "Privacy"
    assert load_benchmark("jbb") == first
    assert load_benchmark("jbb", offline=True) == first
    assert hub.asked() == []


def test_the_benign_half_is_a_file_of_its_own(
    hub: LocalHub, dataset: Repository
) -> None:
    found = load_benchmark("jbb-benign")
    assert kinds(found) == ["benign"] * 6
    assert found.prompts[0].id == "jbb-benign-0"
    assert found.sha256 != load_benchmark("jbb").sha256


@pytest.mark.parametrize("name", ["refusal:even", "magic", "magic:odd"])
def test_a_contrast_is_prompts_of_both_kinds(name: str) -> None:
    found, contrast = load_benchmark(name), load_contrast(name)
    texts = [prompt.text for prompt in found.prompts]
    assert texts == [*contrast.positive, *contrast.negative]
    harmful, benign = contrast.sizes
    assert kinds(found) == ["harmful"] * harmful + ["benign"] * benign
    assert found.name == name
    assert len({prompt.id for prompt in found.prompts}) == len(texts)
    assert ("magic" in str(found.note)) is name.startswith("magic")
    assert kinds(found.limited(6)) == ["harmful"] * 3 + ["benign"] * 3


def test_an_unknown_half_of_a_contrast_is_named() -> None:
    assert "refusal:evne" in refusal(InputError, "refusal:evne")


def test_xstest_tells_the_unsafe_by_their_type(hub: LocalHub) -> None:
    one = hub.add_dataset("XSTest", branches={"main": LATER})
    one.commits = {PUBLISHED["xstest"].revision: {PROMPTS: xstest().encode()}}
    found = load_benchmark("xstest")
    assert kinds(found) == ["benign", "harmful", "benign", "harmful"]
    assert [prompt.category for prompt in found.prompts][:2] == [
        "homonyms",
        "contrast_homonyms",
    ]
    assert found.prompts[0].id == "xstest-1"
    assert found.licence == "CC BY 4.0"
    assert not found.is_published  # these are not its bytes, and it is said
    assert found.note


def test_the_pins_are_whole() -> None:
    for one in PUBLISHED.values():
        assert len(one.revision) == 40
        assert len(one.sha256) == 64
        assert int(one.revision + one.sha256, 16)


def test_a_main_branch_that_moved_does_not_matter(
    hub: LocalHub, dataset: Repository
) -> None:
    dataset.commits[LATER] = {HARMFUL: jbb("other").encode()}
    dataset.branches["main"] = LATER
    assert load_benchmark("jbb").revision == PIN


def test_without_the_commit_the_main_branch_is_taken(
    hub: LocalHub, dataset: Repository
) -> None:
    dataset.commits = {COMMIT: {HARMFUL: jbb("other").encode()}}
    dataset.branches["main"] = COMMIT
    found = load_benchmark("jbb")
    assert found.revision == COMMIT
    assert not found.is_published
    assert COMMIT[:7] in str(found.note)
    hub.asked()
    assert load_benchmark("jbb") == found
    assert load_benchmark("jbb", offline=True) == found
    assert hub.asked() == []


def test_the_same_bytes_at_another_commit_are_the_published_ones(
    hub: LocalHub, dataset: Repository
) -> None:
    dataset.commits = {COMMIT: dataset.commits[PIN]}
    dataset.branches["main"] = COMMIT
    found = load_benchmark("jbb")
    assert (found.revision, found.is_published, found.note) == (COMMIT, True, None)


def test_a_file_that_was_moved_is_found(hub: LocalHub, dataset: Repository) -> None:
    content = dataset.commits[PIN][HARMFUL]
    dataset.commits = {COMMIT: {"csv/harmful_behaviors.csv": content, BENIGN: b"x"}}
    dataset.branches["main"] = COMMIT
    found = load_benchmark("jbb")
    assert found.source.endswith(", csv/harmful_behaviors.csv")
    assert found.is_published
    hub.asked()
    assert load_benchmark("jbb") == found
    assert hub.asked() == []


def test_a_file_that_is_gone_is_named(hub: LocalHub, dataset: Repository) -> None:
    dataset.commits[PIN] = {"data/judge-comparison.csv": b"", "README.md": b""}
    message = refusal(InputError, "jbb")
    tables = (HARMFUL, "'data/judge-comparison.csv'")
    assert missing(message, *tables, "jbb=FILE") == []


def test_offline_asks_nobody(
    hub: LocalHub, dataset: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(InputError, "jbb", offline=True)
    name = "JailbreakBench/JBB-Behaviors"
    assert missing(message, name, "--offline", "jbb=FILE") == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refusal(InputError, "jbb")
    assert hub.asked() == []


@pytest.mark.parametrize("where", ["refusal", "file_refusal"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, {"X-Error-Code": "GatedRepo"}), "gated"),
        ((401, {"X-Error-Code": "GatedRepo"}), "gated"),
        ((401, {}), "access"),
        ((403, {}), "check HF_TOKEN"),
        ((404, {"X-Error-Code": "RepoNotFound"}), "dataset"),
    ],
)
def test_what_the_user_can_mend(
    hub: LocalHub, dataset: Repository, where: str, answer, said: str
) -> None:
    setattr(dataset, where, answer)
    message = refusal(InputError, "jbb")
    assert said in message
    assert "JailbreakBench/JBB-Behaviors" in message


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_hub_that_fails(hub: LocalHub, dataset: Repository, status: int) -> None:
    dataset.refusal = (status, {})
    message = refusal(HubError, "jbb")
    assert str(status) in message
    assert "JailbreakBench/JBB-Behaviors" in message


def test_a_bare_404_is_an_answer_as_well(
    hub: LocalHub, dataset: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mirror gives it, which does not say what it lacks."""
    dataset.refusal = (404, {})
    assert "dataset" in refusal(InputError, "jbb")
    dataset.refusal = None
    monkeypatch.setitem(PUBLISHED, "jbb", replace(PUBLISHED["jbb"], revision="f" * 40))
    dataset.bare = True
    assert load_benchmark("jbb").revision == PIN  # of the main branch


def test_no_network(
    hub: LocalHub, dataset: Repository, down: Callable[[], None]
) -> None:
    found = load_benchmark("jbb")
    down()
    assert load_benchmark("jbb") == found
    message = refusal(HubError, "jbb-benign")
    name = "JailbreakBench/JBB-Behaviors"
    assert missing(message, name, "network", "jbb-benign=FILE") == []


def test_a_cut_connection_leaves_nothing_half(
    hub: LocalHub, dataset: Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset.cut = True
    assert "fetched" in refusal(HubError, "jbb")
    assert "--offline" in refusal(InputError, "jbb", offline=True)
    dataset.cut = False
    assert len(load_benchmark("jbb").prompts) == 6
    assert capfd.readouterr() == ("", "")  # no bars, no warnings


def test_wrong_columns_are_named(hub: LocalHub, dataset: Repository) -> None:
    dataset.commits[PIN][HARMFUL] = b"id,query\n1,what?\n"
    message = refusal(InputError, "jbb")
    assert f"JailbreakBench/JBB-Behaviors, {HARMFUL}, line 1" in message
    assert missing(message, "Goal", "Category", "Index", "'id', 'query'") == []


def test_what_is_no_table_is_refused(hub: LocalHub, dataset: Repository) -> None:
    dataset.commits[PIN][HARMFUL] = b"\xff\xfe"
    assert "is not UTF-8" in refusal(InputError, "jbb")


def test_progress_is_told_of_a_download_alone(
    hub: LocalHub, dataset: Repository
) -> None:
    seen: list[tuple[str, int, int]] = []
    for _ in range(2):
        load_benchmark("jbb", progress=lambda *event: seen.append(event))
    task = "Fetching JailbreakBench/JBB-Behaviors"
    assert seen == [(task, 0, 1), (task, 1, 1)]


def test_a_cache_that_cannot_be_read(
    hub: LocalHub, dataset: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_benchmark("jbb")

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("cna_mlx.prompts.published.read_file", denied)
    assert missing(refusal(HubError, "jbb"), "JBB-Behaviors", "cache") == []


# --------------------------------------------------------------------------- files


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
@pytest.mark.parametrize("numbered", [True, False])
def test_a_csv_of_these_columns_in_any_capitalisation(
    write, change: Callable[[str], str], numbered: bool
) -> None:
    rows = [[f"Goal {n}", "Sure", f"B{n}", "Privacy"] for n in range(3)]
    columns = [change(name) for name in ("Goal", "Target", "Behavior", "Category")]
    if numbered:  # as pandas writes its index
        rows = [[str(n), *row] for n, row in enumerate(rows)]
        columns = ["", *columns]
    content = table(columns, rows)
    guessed = load_benchmark(write("mine.csv", content))
    assert guessed.name == "mine"
    assert kinds(guessed) == ["harmful"] * 3
    assert [prompt.id for prompt in guessed.prompts] == ["mine-1", "mine-2", "mine-3"]
    assert {prompt.category for prompt in guessed.prompts} == {"Privacy"}
    benign = load_benchmark(write("my-Benign-part.csv", content))
    assert kinds(benign) == ["benign"] * 3
    named = load_benchmark("jbb-benign=" + write("mine.csv", content))
    assert (named.name, kinds(named)) == ("jbb-benign", ["benign"] * 3)
    forced = load_benchmark("harmful=" + write("my-benign.csv", content))
    assert (forced.name, kinds(forced)) == ("my-benign", ["harmful"] * 3)
    assert forced.prompts[0].category == "Privacy"


def test_xstest_from_a_file(write) -> None:
    upper = xstest().replace("id,prompt,type", "ID,Prompt,TYPE")
    for text in (write("any.csv", upper), "xstest=" + write("other.csv", upper)):
        found = load_benchmark(text)
        assert kinds(found) == ["benign", "harmful", "benign", "harmful"]
        assert found.prompts[3].category == "contrast_definitions"
    tabs = upper.replace(",", "\t")
    assert len(load_benchmark("xstest=" + write("any.tsv", tabs)).prompts) == 4


def test_a_type_of_another_kind_is_not_taken_for_xstest(write) -> None:
    path = write("tasks.csv", "id,type,prompt\n1,algebra,Solve it.\n2,poem,Rhyme.\n")
    assert kinds(load_benchmark(path)) == ["unknown"] * 2
    assert kinds(load_benchmark(f"xstest={path}")) == ["benign"] * 2


def test_the_published_file_is_known_by_its_bytes(
    write, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = jbb("harm")
    known = replace(PUBLISHED["jbb"], sha256=digest(content))
    monkeypatch.setitem(PUBLISHED, "jbb", known)
    found = load_benchmark(write("copy.csv", content))
    assert found.is_published
    assert found.licence == "MIT"
    assert found.revision is None
    other = load_benchmark(write("copy.csv", content + "\n"))
    assert not other.is_published
    assert other.licence is None
    assert other.sha256 == found.sha256  # the prompts are the same all the same


@pytest.mark.parametrize(
    ("name", "content", "category"),
    [
        ("a.txt", "one\n\ntwo\n", None),
        ("a.jsonl", '"one"\n{"prompt": "two"}\n', None),
        ("a.json", '["one", "two"]', None),
        ("a.csv", "prompt\none\ntwo\n", None),
        ("a.csv", "text,Category\none,x\ntwo,x\n", "x"),
        ("a.csv", "text,Category\none,\ntwo, \n", None),
        ("a.tsv", "n\tgoal\n1\tone\n2\ttwo\n", None),
    ],
)
def test_any_other_file_is_of_unknown_kind(
    write, name: str, content: str, category: str | None
) -> None:
    path = write(name, content)
    found = load_benchmark(path)
    assert [prompt.text for prompt in found.prompts] == ["one", "two"]
    assert [prompt.id for prompt in found.prompts] == ["a-1", "a-2"]
    assert [prompt.category for prompt in found.prompts] == [category] * 2
    assert kinds(found) == ["unknown"] * 2
    assert kinds(load_benchmark(f"benign={path}")) == ["benign"] * 2
    assert found.source == path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "prompt,Category,Level\none,x,2\ntwo, ,high \nthree,y,\n"),
        ("a.tsv", "level\ttext\tcategory\n2\tone\tx\nhigh\ttwo\t\n\tthree\ty\n"),
        (
            "a.jsonl",
            '{"prompt": "one", "category": "x", "level": 2}\n'
            '{"prompt": "two", "category": null, "Level": " high"}\n'
            '{"prompt": "three", "category": "y", "level": [true]}\n',
        ),
        (
            "a.json",
            '[{"goal": "one", "level": 2, "category": "x"}, '
            '{"goal": "two", "level": "high", "category": ""}, '
            '{"goal": "three", "level": true, "category": "y"}]',
        ),
    ],
)
def test_prompts_carry_a_category_and_a_level(write, name: str, content: str) -> None:
    found = load_benchmark(f"harmful={write(name, content)}")
    known = [(one.text, one.category, one.level) for one in found.prompts]
    assert known == [("one", "x", "2"), ("two", None, "high"), ("three", "y", None)]
    assert kinds(found) == ["harmful"] * 3


def test_a_published_layout_carries_a_level_too(write) -> None:
    rows = "Index,Goal,Behavior,Category,Level\n0,one,b,Privacy,low\n1,two,b,Fraud,\n"
    found = load_benchmark(write("own.csv", rows))
    assert [(one.category, one.level) for one in found.prompts] == [
        ("Privacy", "low"),
        ("Fraud", None),
    ]
    plain = load_benchmark(
        write(
            "plain.csv",
            rows.replace(",Level", "").replace(",low", "").replace("Fraud,", "Fraud"),
        )
    )
    assert plain.sha256 != found.sha256


def test_a_named_column_holds_the_prompts(write) -> None:
    path = write("a.csv", "prompt,Question\nno,one\nnot,two\n")
    found = load_benchmark(path, column="question")
    assert [prompt.text for prompt in found.prompts] == ["one", "two"]
    path = write("b.csv", "Behavior,Goal,Category\nb,g,c\n")
    found = load_benchmark(path, column="behavior")
    assert (found.prompts[0].text, found.prompts[0].category) == ("b", "c")


def test_standard_input() -> None:
    found = load_benchmark("-", stdin=io.StringIO("one\ntwo\n"))
    assert (found.name, found.source) == ("stdin", "standard input")
    assert [prompt.id for prompt in found.prompts] == ["stdin-1", "stdin-2"]
    harmful = load_benchmark("harmful=-", stdin=io.StringIO("one\n"))
    assert (harmful.name, kinds(harmful)) == ("harmful", ["harmful"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", " \n", "a.txt: "),
        ("a.csv", "", "a.csv: "),
        ("a.csv", "prompt\n", "a.csv: "),
        ("a.csv", "prompt,n\n ,1\n", "line 2: "),
        ("a.csv", "query,n\nx,1\n", "prompt, text or goal"),
        ("a.csv", "Goal,Behavior,Category\ng,b,\n", "line 2: a blank Category"),
        ("a.csv", "Index,Goal,Behavior,Category\n1,g,b,c\n1,h,b,c\n", "the same id"),
        ("a.csv", "Goal,Behavior,Category\ng,b\n", "line 2: 2 fields"),
        ("a.csv", "Goal,goal,Goal,Behavior,Category\na,b,c,d,e\n", "named 'Goal'"),
        ("jbb=a.csv", "Goal,Index\ng,1\n", "Category"),
        ("jbb=a.csv", "", "Goal"),
        ("xstest=a.csv", "id,prompt,label\n1,p,safe\n", "XSTest"),
        ("xstest=a.csv", "id,prompt,label\n1,p,safe\n", "'id', 'prompt', 'label'"),
        ("xstest=a.csv", "id,prompt,type\n", "a.csv: "),
        ("jbb=a.jsonl", "{}", "CSV"),
    ],
)
def test_an_unfit_file_is_refused(write, name: str, content: str, said: str) -> None:
    mark, _, file = name.rpartition("=")
    text = write(file, content)
    assert said in refusal(InputError, f"{mark}={text}" if mark else text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jbb-bening", "'jbb-benign'?"),
        ("nothing-here.csv", "nothing-here.csv"),
        ("", "file"),
        ("jbb=", "jbb="),
        (
            "advbench=x.csv",
            "jbb=FILE, jbb-benign=FILE, xstest=FILE, harmful=FILE, benign=FILE",
        ),
        ("a\0b", "file"),
        ("x" * 5000, "file"),
        ("jbb=nothing-here.csv", "nothing-here.csv: "),
    ],
)
def test_a_name_that_is_none(text: str, said: str) -> None:
    assert said in refusal(InputError, text)


def test_a_file_may_hold_an_equals_sign(write) -> None:
    assert len(load_benchmark(write("n=2.txt", "one\ntwo\n")).prompts) == 2


# ------------------------------------------------------------------- demo and hashes


def test_the_demo_has_its_own_questions() -> None:
    found = load_benchmark("demo")
    counts = Counter((prompt.category, prompt.kind) for prompt in found.prompts)
    assert counts == {("magic", "harmful"): 100, ("ordinary", "benign"): 100}
    assert len({prompt.id for prompt in found.prompts}) == 200
    assert "magic" in str(found.note)


def test_the_hash_tells_whether_anything_differs(write) -> None:
    def of(content: str, prefix: str = "") -> str:
        return load_benchmark(prefix + write("a.csv", content)).sha256

    one = of("prompt,category\none,x\ntwo,y\n")
    assert of("Category,prompt\nx,one\ny,two\n") == one
    others = {
        of("prompt,category\ntwo,y\none,x\n"),
        of("prompt,category\none,x\ntwo,x\n"),
        of("prompt,category\none,x\ntwo!,y\n"),
        of("prompt,category\none,x\ntwo,y\n", "harmful="),
    }
    assert len(others | {one}) == 5


def test_the_description_is_plain_data_without_prompts(write) -> None:
    found = load_benchmark(write("a.txt", "a secret\n"))
    data = json.dumps(found.to_dict())
    assert "secret" not in data
    assert found.sha256 in data
    assert json.loads(data)["prompts"] == 1


def test_the_cache_can_be_thrown_away(hub: LocalHub, dataset: Repository) -> None:
    load_benchmark("jbb")
    shutil.rmtree(constants.HF_HUB_CACHE)
    hub.asked()
    load_benchmark("jbb")
    assert len([line for line in hub.asked() if "JBB" in line]) == 2
