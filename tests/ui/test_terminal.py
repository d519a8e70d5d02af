"""Real processes: the chat in a pseudo-terminal, on a pipe, and in poor terminals."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import TINY, plain
from marks import slow
from rich.cells import cell_len

from cna_mlx.chat.commands import COMMANDS

# Far more than is ever needed: a busy machine must not fail a test.
_PATIENCE = 180  # seconds; a shared machine can be slow, and nothing waits in vain

# The space behind the prompt is a movement of the cursor where lines are edited.
_PROMPT = r"\n>[ \x08]\Z"

# What the tests of Ctrl-C need: a terminal of one's own, and time to press it.
_CHILD = """
import fcntl, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
import cna_mlx.steering.decoding as decode
from cna_mlx.cli import main

def slowed(step, delay):
    def slow(*arguments):
        time.sleep(delay)
        return step(*arguments)
    return slow

decoding, prefilling = (float(sys.argv.pop(1)) for _ in range(2))
decode.Batch._next = slowed(decode.Batch._next, decoding)
decode.shared_prefill = slowed(decode.shared_prefill, prefilling)
main()
"""


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(
        self,
        *words: str,
        delay: float = 0.0,
        prefill_delay: float = 0.0,
        width: int = 100,
        cwd: Path | None = None,
        **environment: str,
    ) -> None:
        self.screen, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
        known = {"TERM": "xterm-256color"}
        cleared = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONUTF8")
        inherited = {k: v for k, v in os.environ.items() if k not in cleared}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(delay), str(prefill_delay), *words],
            cwd=cwd,
            stdin=end,
            stdout=end,
            stderr=end,
            env={**inherited, **known, **environment},
            start_new_session=True,
        )
        os.close(end)
        self.raw = ""
        self._seen = 0

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.screen, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Read until the pattern appears after what was waited for before."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            text = plain(self.raw)
            if found := re.compile(pattern, re.DOTALL).search(text, self._seen):
                self._seen = found.end()
                return found[0]
            assert time.monotonic() < deadline, f"no {pattern!r} in {text[-2000:]!r}"
            if not self._read():
                raise AssertionError(f"ended without {pattern!r}: {text[-2000:]!r}")

    def prompt(self, pattern: str = "") -> str:
        """Read until the pattern, and then an empty prompt at the end."""
        return self.wait_for(rf"(?:{pattern}).*{_PROMPT}")

    def _read(self) -> bool:
        ready, _, _ = select.select([self.screen], [], [], 1.0)
        if not ready:
            return True
        try:
            data = os.read(self.screen, 65536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.raw += data.decode("utf-8", "replace")
        return bool(data)

    def end(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self._read():
            pass
        return self.process.wait(timeout=_PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.screen)


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Open]:
    opened: list[Terminal] = []

    def one(*words: str, **environment: Any) -> Terminal:
        store = {"CNA_MLX_CACHE": str(tmp_path / "store")}
        found = Terminal(*words, **{**store, **environment})
        opened.append(found)
        return found

    yield one
    for found in opened:
        found.close()


@pytest.fixture
def chat(terminal: Open, circuit_file: Path) -> Open:
    def one(*words: str, tokens: int = 12, **environment: Any) -> Terminal:
        known = ("--circuit", str(circuit_file), "--max-tokens", str(tokens))
        return terminal("chat", TINY, *known, *words, **environment)

    return one


def test_a_conversation(chat: Open, tmp_path: Path) -> None:
    term = chat()
    term.prompt(r"32 neurons scaled by 0\. /help lists")
    term.type("one red stone\r")
    turn = term.prompt(r"histories differ")
    assert "tokens/s" in plain(term.raw)
    assert re.search(r"baseline  [A-Z]+.*ablated  [A-Z]+", plain(term.raw))
    assert "\x1b[1" in term.raw  # in colour, or bold
    assert "Traceback" not in turn
    # an unknown command is refused, not sent
    term.type("/nosuch\r")
    refused = term.prompt(r"/nosuch: unknown")
    assert "tokens/s" not in refused
    # several lines
    term.type('"""two\r')
    term.wait_for(r"\n\.\.\.")
    term.type('blue birds"""\r')
    term.prompt(r"histories differ")
    # the arrow key brings a line back, and it is sent again
    term.type("three red doors\r")
    term.prompt(r"histories differ")
    term.type("\x1b[A")
    term.wait_for("three red doors")
    term.type(" more\r")
    term.prompt(r"histories differ")
    # Tab completes a command
    term.type("/mul\t")
    term.wait_for("/multiplier")
    term.type("0.5\r")
    term.prompt(r"scaled by 0\.5")
    # or lists what there is; Enter takes the choice, and does not send it
    term.type("/s\t")
    term.wait_for("/search .*/sweep .*/show .*/set .*/system .*/save ")
    term.type("\t\t\t\r\r")
    term.prompt("max-tokens")
    saved = tmp_path / "chat.md"
    term.type(f"/save {saved}\r")
    term.prompt(r"saved 4 turns")
    term.type("\x04")
    assert term.end() == 0
    assert re.findall(r"## (.*)", saved.read_text(encoding="utf-8")) == [
        "one red stone",
        "two blue birds",
        "three red doors",
        "three red doors more",
    ]
    assert "Traceback" not in term.raw
    assert term.raw.rindex("\x1b[?25h") > term.raw.rindex("\x1b[?25l")  # cursor is back


def test_ctrl_c_ends_the_answer_and_keeps_it(chat: Open, tmp_path: Path) -> None:
    term = chat(tokens=400, delay=0.05)
    term.prompt()
    term.type("one red stone\r")
    term.wait_for(r"[5-9] tokens, .*Ctrl-C ends the answer")
    term.type("\x03")
    term.prompt(r"baseline  [A-Z]+  interrupted.*interrupted")
    # at the prompt Ctrl-C clears the line and says how to leave
    term.type("half a line")
    term.wait_for("half a line")
    term.type("\x03")
    term.prompt(r"Ctrl-D or /bye leaves")
    saved = tmp_path / "chat.md"
    term.type(f"/save {saved}\r")
    term.prompt(r"saved 1 turn ")
    term.type("/bye\r")
    assert term.end() == 0
    text = saved.read_text(encoding="utf-8")
    assert len(text) > 80  # the answers are in it
    assert "Traceback" not in term.raw


@pytest.mark.parametrize("environment", [{}, {"TERM": "dumb"}], ids=["", "dumb"])
def test_ctrl_c_and_then_ctrl_d_at_the_prompt(
    environment: dict[str, str], chat: Open
) -> None:
    term = chat(**environment)
    term.prompt()
    term.type("\x03")
    # readline may show its prompt again on a busy machine
    term.wait_for(r"\(Ctrl-D or /bye leaves\)\s+>.*\Z")
    term.type("\x04")
    assert term.end() == 0
    text = plain(term.raw)
    assert text.count("Ctrl-D or /bye leaves") == 1
    assert not re.search("Traceback|Error|interrupted", text)


def test_ctrl_c_while_the_prompt_is_read(chat: Open) -> None:
    term = chat(prefill_delay=3.0)
    term.prompt()
    term.type("one red stone\r")
    term.wait_for(r"0 tokens, .*Ctrl-C ends the answer")
    term.type("\x03")
    turn = term.prompt(r"baseline  [A-Z]+  interrupted.*0 tokens.*interrupted")
    assert "(empty)" in turn
    term.type("\x04")
    assert term.end() == 0
    assert "Traceback" not in term.raw


# A line of each command, and what shows that it was carried out.
_SESSION = (
    ("one red stone", "histories differ"),
    ("/where", "raises the gauge.*first words"),
    ("/why", "promotes.*layer|layer.*promotes"),
    ("/sweep 0 1", "first words"),
    ("/neurons 2", "delta"),
    ("/show", "max-tokens"),
    ("/retry", "histories differ"),
    ("/set temp 0.5", "temp is 0.5"),
    ("/set", "hide-text"),
    ("/system Be brief.", "system prompt set"),
    ("/multiplier 2", "scaled by 2"),
    ("/view ablated", "showing ablated"),
    ("/align", "baseline's answers"),
    ("/ablate off", "only the baseline"),
    ("/ablate on", "scaled by 2"),
    ("/save c.json", "saved 1 turn"),
    ("/export c.svg", "wrote 1 turn"),
    ("/clear", "cleared"),
    ("/load c.json", "continuing 1 turn"),
    ("/undo", "took back"),
    ("/circuit c.json", "c.json"),
    ("/contrast", "refusal"),
    ("/search", "too few to search by"),
    ("/help", "several lines"),
)


_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("width", "environment"),
    [
        (60, {}),
        slow(80, {}),
        slow(160, {}),
        slow(60, _ASCII),
        (80, {"TERM": "dumb"}),
        slow(80, {"NO_COLOR": "1"}),
    ],
    ids=["60", "80", "160", "ascii", "dumb", "no-color"],
)
def test_every_command_in_every_terminal(
    width: int, environment: dict[str, str], chat: Open, tmp_path: Path
) -> None:
    term = chat(width=width, cwd=tmp_path, **environment)
    term.prompt()
    for line, said in _SESSION:
        term.type(f"{line}\r")
        term.prompt(rf"(?:{said})")
    term.type("/bye\r")
    assert term.end() == 0
    typed = {line.split()[0] for line, _ in _SESSION} | {"/bye"}
    assert set(COMMANDS) <= typed
    assert "Traceback" not in term.raw
    lines = re.split(r"[\r\n]+", plain(term.raw))
    assert [line for line in lines if cell_len(line) > width] == []
    if environment == _ASCII:
        assert term.raw.isascii()
    if environment == {"TERM": "dumb"}:
        assert "\x1b" not in term.raw
    if environment == {"NO_COLOR": "1"}:
        assert not re.search(r"\x1b\[(?:\d+;)*3[0-7]m", term.raw)


def test_every_command_on_a_pipe(circuit_file: Path, tmp_path: Path) -> None:
    text = "\n".join(line for line, _ in _SESSION)
    known = ("chat", TINY, "--circuit", str(circuit_file), "--max-tokens", "8")
    code, out, err = _run(*known, text=text, cwd=tmp_path)
    assert code == 0, err
    assert "\x1b" not in out + err
    assert "Traceback" not in err
    for line, said in _SESSION:
        assert f"> {line}\n" in out
        assert re.search(said, out + err, re.DOTALL), line


@pytest.mark.parametrize(
    ("term_name", "is_marked"),
    [("xterm-256color", True), slow("xterm-256color", False), slow("dumb", False)],
    ids=["bracketed", "unmarked", "dumb"],
)
def test_a_paste_of_fifty_lines_is_one_message(
    term_name: str, is_marked: bool, chat: Open, tmp_path: Path
) -> None:
    term = chat("--temp", "0", cwd=tmp_path, TERM=term_name, tokens=4)
    term.prompt()
    lines = [f"{n} red" for n in range(50)]
    paste = "\r".join(lines)
    if is_marked:  # as terminals do where they are asked to
        assert "\x1b[?2004h" in term.raw
        paste = f"\x1b[200~{paste}\x1b[201~"
    term.type(paste)
    term.wait_for("49 red")
    term.type("\r")
    term.prompt(r"histories differ")
    term.type("/save c.json\r")
    term.prompt(r"saved 1 turn")
    term.type("\x04")
    assert term.end() == 0
    (turn,) = json.loads((tmp_path / "c.json").read_text("utf-8"))["turns"]
    assert turn["prompt"].splitlines() == lines


@pytest.mark.slow
def test_what_was_typed_is_there_in_the_next_session(
    chat: Open, tmp_path: Path
) -> None:
    history = tmp_path / "store" / "chat.history"
    term = chat("--no-history")
    term.prompt()
    term.type("a secret\r")
    term.prompt(r"histories differ")
    term.type("\x04")
    assert term.end() == 0
    assert not history.exists()
    term = chat()
    term.prompt()
    term.type("four red hats\r")
    term.prompt(r"histories differ")
    term.process.kill()  # a window may be closed at any time
    assert history.stat().st_mode & 0o077 == 0
    term = chat()
    term.prompt()
    term.type("\x1b[A")
    term.wait_for("four red hats")
    term.type("\r")
    term.prompt(r"histories differ")
    term.type("\x04")
    assert term.end() == 0


@pytest.mark.slow
def test_ctrl_d_leaves_at_once(chat: Open) -> None:
    term = chat()
    term.prompt()
    term.type("\x04")
    assert term.end() == 0


@pytest.mark.parametrize(
    "environment",
    [
        slow({"TERM": "dumb"}),
        slow({"TERM": ""}),
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        slow({"NO_COLOR": "1"}),
    ],
    ids=["dumb", "no-term", "ascii", "no-color"],
)
def test_poor_terminals(environment: dict[str, str], chat: Open) -> None:
    term = chat(**environment)
    term.prompt()
    term.type("caf\u00e9\r")
    term.prompt(r"histories differ")
    answers = term.raw
    term.type("/help\r")
    term.prompt(r"/bye")
    term.type("\x04")
    assert term.end() == 0
    text = plain(term.raw)
    assert "Traceback" not in text
    assert re.search(r"baseline  [A-Z]{6,}", text)
    if environment.get("TERM") == "dumb":
        assert "\x1b" not in term.raw
        assert "Ctrl-C" not in answers  # nothing is drawn over
    if "LC_ALL" in environment:
        assert answers.replace("caf\u00e9", "").isascii()
    if "NO_COLOR" in environment:
        assert not re.search(r"\x1b\[(?:\d+;)*3[0-7]m", answers)


@pytest.mark.slow
def test_diff_in_a_narrow_terminal(terminal: Open, circuit_file: Path) -> None:
    known = ("--circuit", str(circuit_file), "--max-tokens", "12")
    term = terminal("diff", TINY, *known, "-p", "one", width=60)
    assert term.end() == 0
    lines = plain(term.raw).splitlines()
    assert max(map(len, lines)) <= 60
    for word in ("baseline", "ablated", "refused", "quality", "cut off"):
        assert any(word in line for line in lines)


def _run(
    *words: str, text: str = "", cwd: Path | None = None, **environment: str
) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cna_mlx", *words],
        input=text.encode(),
        cwd=cwd,
        capture_output=True,
        timeout=_PATIENCE,
        env={**os.environ, **environment},
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        slow({"TERM": "dumb"}),
        slow({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        slow({"PYTHONIOENCODING": "ascii"}),
    ],
    ids=["plain", "dumb", "ascii-locale", "ascii-streams"],
)
def test_a_chat_on_a_pipe(
    environment: dict[str, str], circuit_file: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "chat.json"
    text = f"caf\u00e9 \U0001f600\n/nosuch\n/save {saved}\n/bye\nnever\n"
    known = ("chat", TINY, "--circuit", str(circuit_file), "--max-tokens", "6")
    code, out, err = _run(*known, text=text, **environment)
    assert code == 0, err
    assert "\x1b" not in out + err
    assert "Traceback" not in err
    assert "never" not in out
    assert "/nosuch" in err
    assert '"prompt": "caf\u00e9 \U0001f600"' in saved.read_text(encoding="utf-8")
    if environment.keys() & {"LC_ALL", "PYTHONIOENCODING"}:
        assert out.isascii()
        assert err.isascii()


def test_a_pipe_does_not_load_the_line_editor() -> None:
    script = (
        "import sys\n"
        "from cna_mlx.cli import run\n"
        f"assert run(['chat', {TINY!r}]) == 0\n"
        "sys.exit('prompt_toolkit' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=b"/bye\n", timeout=_PATIENCE, check=False
    )
    assert done.returncode == 0


@pytest.mark.slow
def test_sigint_while_a_pipe_is_awaited_does_not_lose_the_chat(
    circuit_file: Path,
) -> None:
    known = ("chat", TINY, "--circuit", str(circuit_file), "--max-tokens", "4")
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "cna_mlx", *known],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while b"/help lists" not in (line := process.stdout.readline()):
            assert line, "ended early"
        time.sleep(2)  # until it waits for a line
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        out, _ = process.communicate(b"one\n", timeout=_PATIENCE)
        assert process.returncode == 0, out
    assert b"/bye" in out
    assert b"baseline" in out
