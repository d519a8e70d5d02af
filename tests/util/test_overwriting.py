"""What may be replaced: nothing of another kind, and nothing unasked."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from chats import ask
from commandline import TINY, Outcome, make_screen, sent
from evaluation_runs import make_circuit, make_run

from cna_mlx.chat import transcripts
from cna_mlx.chat.commands import run_command
from cna_mlx.chat.conversation import Conversation
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.report.circuit_page import write_circuit_page
from cna_mlx.report.writing import write_report
from cna_mlx.ui.chat import run_chat
from cna_mlx.util.overwriting import Kind, check_replaceable

Command = Callable[..., Outcome]

NOTES = "my own notes, and not of any tool\n"
REFUSED = "is not a"


@pytest.fixture
def chat(tiny: tuple, circuit_text: str) -> Conversation:
    made = Conversation(Session.of(*tiny), max_tokens=4)
    ask(made)
    return made


def written(kind: Kind, directory: Path, chat: Conversation) -> Path:
    """A file of a kind, as cna-mlx writes it."""
    report = write_report(make_run(directory / "run"))
    if kind == "circuit":
        make_circuit().save(directory / "c.json")
        return directory / "c.json"
    if kind == "conversation":
        run_command(chat, f"/save {directory / 'talk.json'}")
        return directory / "talk.json"
    if kind == "picture":
        run_chat(make_screen(terminal=False), chat, io.StringIO(""))
        run_command(chat, f"/export {directory / 'talk.svg'}")
        return directory / "talk.svg"
    names = {"page": "html", "Markdown": "markdown", "CSV": "figures"}
    return report.files[names[kind]]


KINDS: tuple[Kind, ...] = (
    *("circuit", "conversation", "page", "picture", "Markdown", "CSV"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_the_same_kind_is_replaced_if_somebody_says_so(
    kind: Kind, tmp_path: Path, chat: Conversation
) -> None:
    path = written(kind, tmp_path, chat)
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return len(asked) > 1

    for _ in range(2):
        with pytest.raises(InputError, match="--force"):
            check_replaceable(
                path, kind, confirm=confirm if not asked else lambda _: False
            )
    check_replaceable(path, kind, confirm=confirm)
    assert len(asked) == 2
    assert all(str(path) in one for one in asked)
    check_replaceable(path, kind, force=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("others", KINDS)
def test_a_file_of_another_kind_stays(
    kind: Kind, others: Kind, tmp_path: Path, chat: Conversation
) -> None:
    if kind == others:
        path = tmp_path / "notes.txt"
        path.write_text(NOTES)
    else:
        path = written(others, tmp_path, chat)
    before = path.read_bytes()
    with pytest.raises(InputError, match=REFUSED):
        check_replaceable(path, kind, force=True, confirm=lambda _: True)
    assert path.read_bytes() == before


def test_the_files_of_a_report_and_of_a_chat_are_known(
    tmp_path: Path, chat: Conversation
) -> None:
    report = write_report(make_run(tmp_path / "run")).files
    check_replaceable(report["samples"], "CSV", force=True)
    page = tmp_path / "circuit.html"
    write_circuit_page(make_circuit(), page)
    check_replaceable(page, "page", force=True)
    talk = tmp_path / "talk.md"
    talk.write_text(transcripts.as_markdown(chat))
    check_replaceable(talk, "Markdown", force=True)


def test_a_free_name_and_an_empty_file_are_right(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for path in (empty, tmp_path / "free", None):
        check_replaceable(path, "circuit")
    with pytest.raises(InputError, match="directory"):
        check_replaceable(tmp_path, "circuit")


@pytest.mark.parametrize(
    "words",
    [
        ("discover", TINY, "-o", "{file}"),
        ("search", TINY, "-o", "{file}"),
        ("shrink", TINY, "--circuit", "{circuit}", "-o", "{file}"),
        ("diff", TINY, "one", "--svg", "{file}"),
        ("stability", TINY, "--out", "{file}"),
        ("circuit", "show", "{circuit}", "--out", "{file}"),
        ("circuit", "union", "{circuit}", "{circuit}", "-o", "{file}"),
        ("circuit", "intersect", "{circuit}", "{circuit}", "-o", "{file}"),
        ("circuit", "minus", "{circuit}", "{circuit}", "-o", "{file}"),
        ("circuit", "top", "{circuit}", "1", "-o", "{file}"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_no_command_replaces_a_file_of_somebody_else(
    words: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    circuit, notes = tmp_path / "circuit.json", tmp_path / "notes.txt"
    make_circuit().save(circuit)
    notes.write_text(NOTES)
    for more in ((), ("--force",)):
        typed = [one.format(file=notes, circuit=circuit) for one in words]
        done = command(*typed, *more)
        assert done.code == 2
        assert REFUSED in done.failure
        assert notes.read_text() == NOTES


def test_a_circuit_is_replaced_by_force_only(command: Command, tmp_path: Path) -> None:
    circuit, other = tmp_path / "a.json", tmp_path / "b.json"
    make_circuit().save(circuit)
    make_circuit(1).save(other)
    before = other.read_bytes()
    words = ("circuit", "top", str(circuit), "2", "-o", str(other))
    done = command(*words)
    assert done.code == 2
    assert "--force" in done.failure
    assert other.read_bytes() == before
    assert command(*words, "--force").code == 0
    assert Circuit.load(other).neurons == Circuit.load(circuit).neurons[:2]


def test_a_report_elsewhere_is_asked_about_once(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = str(make_run(tmp_path / "run").directory), tmp_path / "out"
    assert command("report", run, "--out", str(out)).code == 0
    assert "--force" in command("report", run, "--out", str(out)).failure
    assert command("report", run, "--out", str(out), "--force").code == 0
    asked: list[str] = []
    monkeypatch.setattr(
        "cna_mlx.commands.values._confirm", lambda text: not asked.append(text)
    )
    assert command("report", run, "--out", str(out)).code == 0
    assert len(asked) == 1
    (out / "report.md").write_text(NOTES)
    assert REFUSED in command("report", run, "--out", str(out), "--force").failure
    assert (out / "report.md").read_text() == NOTES
    assert command("report", run).code == 0  # its own directory is its own
    assert command("report", run).code == 0


@pytest.mark.parametrize("name", ["/save", "/export"])
def test_a_chat_replaces_its_own_files_only(
    name: str, tmp_path: Path, chat: Conversation
) -> None:
    path = tmp_path / "talk.md"
    path.write_text(NOTES)
    for line in (f"{name} {path}", f"{name} {path} --force"):
        with pytest.raises(InputError, match=REFUSED):
            run_command(chat, line)
        assert path.read_text() == NOTES
    own = tmp_path / "own.md"
    for _ in range(2):
        run_command(chat, f"{name} {own}")
    other = Conversation(chat.session, max_tokens=4)
    ask(other, "two red birds")
    with pytest.raises(InputError, match="--force"):
        run_command(other, f"{name} {own}")
    other.confirm = lambda question: False
    with pytest.raises(InputError, match="--force"):
        run_command(other, f"{name} {own}")
    assert "two red birds" not in own.read_text()
    run_command(other, f"{name} {own} --force")
    assert "two red birds" in own.read_text()


def test_a_chat_in_a_terminal_asks(tmp_path: Path, chat: Conversation) -> None:
    path = tmp_path / "talk.json"
    run_command(chat, f"/save {path}")
    before = path.read_text()
    other = Conversation(chat.session, max_tokens=4)
    ask(other, "two red birds")
    answers = iter([False, True])
    other.confirm = lambda question: next(answers)
    with pytest.raises(InputError):
        run_command(other, f"/save {path}")
    assert path.read_text() == before
    run_command(other, f"/save {path}")
    assert path.read_text() != before
    assert sent(make_screen().out) == ""
