"""Line editing: what keys make a message, without a terminal."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import make_screen, plain, sent
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from cna_mlx.chat.commands import COMMANDS
from cna_mlx.chat.settings import SETTINGS
from cna_mlx.ui.console import Screen
from cna_mlx.ui.line_editor import CommandCompleter, line_editor

TAB, ENTER, UP, LEFT, CTRL_C, CTRL_D = "\t", "\r", "\x1b[A", "\x1b[D", "\x03", "\x04"


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe, create_app_session(pipe, DummyOutput()):
        yield pipe


@pytest.fixture
def screen() -> Screen:
    return make_screen(80)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (f"one{ENTER}", "one"),
        (ENTER, ""),
        (f"oe{LEFT}n{ENTER}", "one"),
        (f"café 😀{ENTER}", "café 😀"),
        ("\x1b[200~one\r\n/two\n\nthree\x1b[201~\r", "one\n/two\n\nthree"),
        (f"one\rtwo\r/three{ENTER}", "one\ntwo\n/three"),  # a paste without marks
        (f"what{TAB}{ENTER}", "what"),
    ],
)
def test_keys_make_a_message(
    typed: str, message: str, keys: PipeInput, screen: Screen
) -> None:
    keys.send_text(typed)
    assert line_editor(screen)() == message


def completed(line: str) -> list[str]:
    found = CommandCompleter().get_completions(Document(line), CompleteEvent())
    return [line[: len(line) + one.start_position] + one.text for one in found]


def test_commands_and_their_words_are_completed(tmp_path: Path) -> None:
    assert completed("") == [f"{name} " for name in COMMANDS]
    assert completed("/mul") == ["/multiplier "]
    names = ("/search", "/sweep", "/show", "/set", "/system", "/save")
    assert completed("/s") == [f"{name} " for name in names]
    assert completed("/set te") == ["/set temp "]
    assert completed("/set ") == [f"/set {name} " for name in SETTINGS]
    assert completed("/view b") == ["/view both ", "/view baseline "]
    assert completed("/ablate o") == ["/ablate on ", "/ablate off "]
    assert "/contrast refusal " in completed("/contrast re")
    for line in ("wh", "/why x", "/nosuch x", "what is x", "/view both b"):
        assert completed(line) == []
    (tmp_path / "chat.json").touch()
    (tmp_path / "chat two").mkdir()
    found = completed(f"/load {tmp_path}/ch")
    assert found == [f"/load {tmp_path}/chat two", f"/load {tmp_path}/chat.json"]
    assert completed(f"/load {tmp_path}/chat t") == found[:1]
    assert completed("/load /nowhere/x") == []
    for name, command in COMMANDS.items():
        assert bool(completed(f"{name} {tmp_path}/ch")) == command.takes_file


def test_three_quotes_hold_enter_back(keys: PipeInput, screen: Screen) -> None:
    keys.send_text('"""one\r/two\r"""\r')
    assert line_editor(screen)() == '"""one\n/two\n"""'
    lines = plain(sent(screen.out)).splitlines()
    assert lines == ['> """one', "... /two", '... """']  # shown whole when sent


def test_commands_that_come_together_are_several(
    keys: PipeInput, screen: Screen
) -> None:
    read = line_editor(screen)
    keys.send_text(f"/clear{ENTER}/show{ENTER}{CTRL_D}")
    assert [read(), read(), read()] == ["/clear", "/show", None]


def test_ctrl_c_clears_the_line(keys: PipeInput, screen: Screen) -> None:
    read = line_editor(screen)
    keys.send_text(f"one{CTRL_C}")
    with pytest.raises(KeyboardInterrupt):
        read()
    keys.send_text(f"two{ENTER}")
    assert read() == "two"


def test_ctrl_d_ends_only_at_an_empty_prompt(keys: PipeInput, screen: Screen) -> None:
    read = line_editor(screen)
    keys.send_text(f"one{CTRL_D}{ENTER}")
    assert read() == "one"
    keys.send_text(CTRL_D)
    assert read() is None


def test_bytes_that_are_not_utf_8_are_replaced(
    keys: PipeInput, screen: Screen, tmp_path: Path
) -> None:
    keys.send_bytes(b"caf\xe9\r")
    assert line_editor(screen, tmp_path / "history")() == "caf\ufffd"


def test_history_is_private_and_outlives_the_session(
    keys: PipeInput, screen: Screen, tmp_path: Path
) -> None:
    path = tmp_path / "store" / "history"
    keys.send_text(f"one{ENTER}")
    line_editor(screen, path)()
    assert path.stat().st_mode & 0o777 == 0o600
    keys.send_text(f"\x1b[200~two\nthree\x1b[201~{ENTER}")
    line_editor(screen, path)()
    read = line_editor(screen, path)
    keys.send_text(f"{UP}{ENTER}")
    assert read() == "two\nthree"
    keys.send_text(f"{UP}{UP}{UP}{ENTER}")  # over the two lines of the last message
    assert read() == "one"


@pytest.mark.parametrize("content", [b"_HiStOrY_V2_\nold\\040words\n", b"\xff\x00\n"])
def test_a_file_of_another_kind_is_no_obstacle(
    content: bytes, keys: PipeInput, screen: Screen, tmp_path: Path
) -> None:
    path = tmp_path / "history"
    path.write_bytes(content)
    keys.send_text(f"{UP}one{ENTER}")
    assert line_editor(screen, path)() == "one"


def test_a_history_that_cannot_be_kept_is_no_obstacle(
    keys: PipeInput, screen: Screen, tmp_path: Path
) -> None:
    keys.send_text(f"one{ENTER}")
    assert line_editor(screen, tmp_path)() == "one"  # a directory
    (tmp_path / "file").touch()
    keys.send_text(f"two{ENTER}")
    assert line_editor(screen, tmp_path / "file" / "history")() == "two"
