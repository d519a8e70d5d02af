"""What is printed: model text neither acts nor breaks the layout nor vanishes."""

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commandline import make_result, make_screen, plain, sent
from evaluation_runs import make_run
from rich.cells import cell_len
from rich.console import Console

from cna_mlx.analysis.decision import Outcome
from cna_mlx.analysis.summary import summarize
from cna_mlx.analysis.verdict import Verdict
from cna_mlx.chat.conversation import Conversation
from cna_mlx.circuit import Circuit, Details, Moments, Neuron
from cna_mlx.discovery.session import Session
from cna_mlx.labels.label import LabelKind
from cna_mlx.prompts import contrast_names, load_contrast
from cna_mlx.provenance import ModelEntry
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import rates
from cna_mlx.ui.chat import _is_shown, _is_yes, run_chat
from cna_mlx.ui.console import Screen
from cna_mlx.ui.diff import arms_view, body, prompt_view, rates_view, summary
from cna_mlx.ui.evaluation import discovery_lines, headline_view
from cna_mlx.ui.lists import prompt_sets_view
from cna_mlx.ui.live import live_view
from cna_mlx.ui.models import catalogue_view
from cna_mlx.ui.progress import progress_bar
from cna_mlx.ui.search import live_view as counts_view
from cna_mlx.ui.tables import circuit_view
from cna_mlx.util.progress import Pace
from cna_mlx.util.sanitize import visible

ARMS = [BASELINE, Arm.of(Circuit.from_neurons([(0, 0, 1.0)]), 0.0, "ablated")]
WIDTHS = (40, 60, 80, 160)
REFUSAL = "I'm sorry, but I can't help with that."

NASTY = {
    "clear": "before \x1b[2J\x1b[H after",
    "title": "before \x1b]0;title\x07 after",
    "c1": "before \x9b2J \x85 after",
    "markup": "[INST] [/red] [bold]bold[/] [link=file:///x]here[/link] :smile: \\[x]",
    "return": "this is hidden\rby that",
    "backspace": "secret\x08\x08\x08\x08\x08\x08public \x7f",
    "bidi": "left \u202eright\u202c \u2066isolated\u2069 \u200fmark",
    "surrogate": "half \udcff of \ud800 a pair",
    "lines": "one\u2028two\u2029three\x0bfour\x0cfive",
    "tabs": "a\tb\t\tc\n\td",
    "wide": "你好世界" * 30,
    "emoji": "family 👩\u200d👩\u200d👧 flag 🇩🇪 heart ❤️ " * 5,
    "combining": "e\u0301 " * 3 + "Z\u0351\u036b\u0343\u0363\u0343" * 20,
    "long": "x" * 300,
    "newlines": "\n\n\nfirst\n\n\nlast\n\n",
    "nul": "a\x00b\ufeffc\u00add\ufffee",
    "tags": "plain\U000e0041\U000e0042 text",
}


def printed(console: Console, view: Any, **options: Any) -> list[str]:
    """The lines of a view without its colours."""
    console.print(view, **options)
    return plain(sent(console)).splitlines()


def unsafe(text: str) -> list[str]:
    """What a terminal would obey or hide, apart from what Rich itself sends."""
    return re.findall(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200b\u200e\u200f\u202a-\u202e"
        "\u2066-\u2069\ufeff\u00ad\ud800-\udfff\U000e0000-\U000e007f]",
        text,
    )


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def columns(lines: list[str], bar: str) -> list[str]:
    """What stands in the frames of each arm, its lines joined."""
    found: list[str] = []
    beside = any(line.count(bar) == 4 for line in lines)
    for line in lines:
        parts = line.split(bar)
        if beside:
            found = found or ["", ""]
            if len(parts) == 5:
                found = [found[0] + parts[1], found[1] + parts[3]]
            elif len(parts) == 3:  # the other frame has ended
                found[bool(parts[0])] += parts[1]
        elif len(parts) == 3:
            found[-1] += parts[1]
        elif line.startswith(("╭", "+")):
            found.append("")
    return [one for one in found if one]


# ---------------------------------------------------------------------- the diff


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("color", [True, False], ids=["color", "plain"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NASTY)
def test_model_text_is_data(name: str, width: int, color: bool, encoding: str) -> None:
    text = NASTY[name]
    screen = make_screen(width, color=color, encoding=encoding)
    # no sign of parting in ASCII: it is made of the frames' own bars
    other = text if encoding == "ascii" else f"{text} and {text}"
    result = make_result([text, other], prompt=text)
    lines = printed(screen.out, prompt_view(screen, result, "1/1"))
    assert not unsafe("".join(lines))
    if not color:
        assert "\x1b" not in sent(screen.out)
    assert max(map(cell_len, lines)) <= width
    if encoding == "ascii":
        assert "".join(lines).isascii()
    # The frames stand: every line of one is as wide as its first.
    bar = "|" if encoding == "ascii" else "│"
    framed = [line for line in lines if bar in line and line[:1] in f"{bar} "]
    assert framed
    # Nothing of the text is lost.
    shown = squeezed(visible(text, ascii_only=encoding == "ascii"))
    whole = squeezed("".join(lines))
    assert whole.startswith(f"{squeezed(lines[0])}>{shown}")
    first, second = (squeezed(one) for one in columns(lines, bar))
    assert shown in first
    assert second.replace("‖", "", 1).count(shown) >= 1 + (encoding != "ascii")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("name", NASTY)
def test_model_text_on_a_pipe(name: str, encoding: str) -> None:
    text = NASTY[name]
    screen = make_screen(terminal=False, encoding=encoding)
    result = make_result([text, f"{text} end"], prompt=text)
    lines = printed(screen.out, prompt_view(screen, result, "1/1"), soft_wrap=True)
    raw = sent(screen.out)
    assert "\x1b" not in raw
    assert not unsafe(raw.replace("\n", ""))
    shown = squeezed(visible(text, ascii_only=encoding == "ascii"))
    assert squeezed(raw).count(shown) >= 3
    assert lines


def test_side_by_side_where_there_is_room_and_stacked_where_not() -> None:
    result = make_result(["the baseline", "no other"])
    for width in WIDTHS:
        screen = make_screen(width)
        lines = printed(screen.out, arms_view(screen, result))
        beside = any("the baseline" in one and "no other" in one for one in lines)
        assert beside == (width >= 80)
    many = make_result(["the baseline", "no other", "and", "more"])
    screen = make_screen(80)
    lines = printed(screen.out, arms_view(screen, many))
    assert not any("the baseline" in one and "no other" in one for one in lines)


def test_long_words_are_folded_side_by_side() -> None:
    word = "".join(chr(97 + n % 26) for n in range(200))
    screen = make_screen(80)
    lines = printed(screen.out, arms_view(screen, make_result([word, f"{word}!"])))
    assert any(line.count("│") == 4 for line in lines)
    assert word in columns(lines, "│")[0].replace(" ", "")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_parting_is_marked_where_it_is(encoding: str) -> None:
    screen = make_screen(encoding=encoding)
    sign = "||" if encoding == "ascii" else "‖"
    result = make_result(["I can not do this", "I can help you", "I can not do this"])
    assert body(screen, result, 0).plain == "I can not do this"
    assert body(screen, result, 1).plain == f"I can {sign} help you"
    assert body(screen, result, 2).plain == "I can not do this"
    shorter = make_result(["Sorry. No more", "Sorry."])
    assert body(screen, shorter, 1).plain == f"Sorry.{sign} "


def test_the_parting_inside_the_deciding_words() -> None:
    screen = make_screen(80)
    result = make_result(["I'm sorry, but no way.", REFUSAL])
    text = body(screen, result, 1)
    start, end = result.arms[1].label.span or (0, 0)
    assert text.plain.replace("‖ ", "").startswith(REFUSAL)
    underlined = "".join(
        text.plain[span.start : span.end]
        for span in text.spans
        if "underline" in str(span.style)
    )
    assert underlined == REFUSAL[start:end]


def test_deciding_words_are_underlined_or_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    result = make_result([REFUSAL])
    screen = make_screen(80)
    printed(screen.out, arms_view(screen, result))
    raw = sent(screen.out)
    underlined = re.findall(r"\x1b\[[0-9;]*\b4;?[0-9;]*m([^\x1b]*)\x1b", raw)
    assert any("can't help" in part for part in underlined)
    assert "decided by" not in raw
    monkeypatch.setenv("TERM", "dumb")
    lines = printed(make_screen().out, arms_view(make_screen(), result))
    assert any("decided by: " in line and "can't help" in line for line in lines)
    pipe = make_screen(terminal=False)
    assert "decided by: " in "".join(printed(pipe.out, arms_view(pipe, result)))


def test_deciding_words_of_any_length_are_said() -> None:
    screen = make_screen(terminal=False)
    (line,) = (
        line
        for line in body(screen, make_result(["xy" * 200]), 0).plain.splitlines()
        if line.startswith("decided by: ")
    )
    assert line.startswith("decided by: xyxyxy")
    assert line.endswith(" ...")
    assert len(line) < 100


def test_badges_need_no_colour() -> None:
    texts = [REFUSAL, "Sure, a stone.", "", f"{REFUSAL} But here is how:\n1. a\n2. b"]
    result = make_result(texts)
    verdicts = [str(arm.label.kind) for arm in result.arms]
    assert set(verdicts) >= {"REFUSED", "ANSWERED", "INVALID"}
    for screen in (make_screen(color=False), make_screen(terminal=False)):
        lines = printed(screen.out, arms_view(screen, result))
        for arm in result.arms:
            head = f"{arm.arm.label}  {arm.label.kind}"
            assert any(head in line for line in lines)
        text = summary(screen, result).plain
        assert [line.split(" → ")[1].split(",")[0] for line in text.splitlines()] == (
            verdicts[1:]
        )
    assert "(empty)" in "".join(printed(make_screen().out, arms_view(screen, result)))


def test_the_summary_says_where_the_arms_part() -> None:
    screen = make_screen()
    result = make_result(["one two", "one three", "one two"], ids=[(1, 2), (1, 3)] * 2)
    first, second = summary(screen, result).plain.splitlines()
    assert first.endswith("at token 2")
    assert second.endswith("identical")


def test_no_color_leaves_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = make_screen(80)
    lines = printed(screen.out, prompt_view(screen, make_result([REFUSAL, "x y"]), "1"))
    raw = sent(screen.out)
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38|48)(?:;|m)", raw)
    assert any("REFUSED" in line for line in lines)
    monkeypatch.delenv("NO_COLOR")
    screen = make_screen(80)
    printed(screen.out, arms_view(screen, make_result([REFUSAL])))
    assert re.search(r"\x1b\[(?:\d+;)*31m", sent(screen.out))  # else the above is moot


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", WIDTHS)
def test_rates_are_whole_at_any_width(
    width: int, encoding: str, terminal: bool
) -> None:
    results = [make_result([REFUSAL, "Sure, a red stone.", ""])] * 12
    screen = make_screen(width, encoding=encoding, terminal=terminal)
    lines = printed(screen.out, rates_view(screen, rates(results)))
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    for kind in LabelKind:  # a column of what there is none of says nothing
        assert (kind.lower() in text) is (kind is not LabelKind.UNJUDGED)
    for arm in ("baseline", "m=0", "m=0.5"):
        assert arm in text
    assert text.count("12/12") == 3
    assert text.count("0/12") == 12
    assert text.count("1.00") == 3
    assert "…" not in text
    assert "\\u2026" not in text


def test_names_from_the_command_line_do_not_act() -> None:
    circuit = Circuit.from_neurons([(0, 0, 1.0)])
    from cna_mlx.steering.diff import ArmResult, PromptResult
    from cna_mlx.steering.events import Answer

    arms = [BASELINE, Arm.of(circuit, 0.0, "\x1b[2Jevil[red].json m=0")]
    result = PromptResult(
        "x",
        tuple(
            ArmResult.of(a, Answer(0, n, "y", (1,), "stop")) for n, a in enumerate(arms)
        ),
    )
    screen = make_screen(160)
    lines = printed(screen.out, prompt_view(screen, result, "1"))
    lines += printed(screen.out, rates_view(screen, rates([result])))
    assert not unsafe("".join(lines))
    assert "\\x1b[2Jevil[red].json" in "".join(lines)


# ---------------------------------------------------------------------- the chat


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("view", ["both", "baseline", "ablated"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NASTY)
def test_streaming_text_fits_and_does_not_act(
    name: str, width: int, view: str, encoding: str
) -> None:
    text = NASTY[name] * 20
    screen = make_screen(width, height=20, encoding=encoding)
    arms = [arm for arm in ARMS if _is_shown(arm.label, view)]
    said = [text, text[::-1]][: len(arms)]
    live = live_view(screen, [arm.title for arm in arms], said, "9 tokens, 1.0/s")
    lines = printed(screen.out, live)
    assert not unsafe("".join(lines))
    assert max(map(cell_len, lines)) <= width
    assert len(lines) <= 20
    assert "Ctrl-C" in " ".join(line.strip() for line in lines)
    for label in ("baseline", "ablated"):
        shown = any(label in line for line in lines)
        assert shown == (view in ("both", label))


def test_streaming_shows_the_last_lines() -> None:
    text = "\n".join(f"line {n}" for n in range(100))
    for width in WIDTHS:
        screen = make_screen(width, height=20)
        lines = printed(screen.out, live_view(screen, ["a", "b"], [text] * 2, ""))
        assert any("line 99" in line for line in lines)
        assert not any("line 10 " in line for line in lines)


def test_one_arm_streams_alone() -> None:
    screen = make_screen(100)
    lines = printed(screen.out, live_view(screen, ["a"], ["hi"], ""))
    assert any("hi" in line for line in lines)


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("width", [40, 80])
def test_a_chat_with_nasty_answers(
    width: int,
    terminal: bool,
    tiny: tuple[Any, Any],
    circuit_text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import io

    from cna_mlx import Answer, Token

    # a detokenizer never makes half a surrogate pair, and no tokenizer reads one
    texts = [text for name, text in NASTY.items() if name != "surrogate"]
    said = iter(texts)

    def answer(model: Any, tokenizer: Any, ids: Any, arms: Any, **_: Any) -> Any:
        text = next(said)
        for arm in range(len(arms)):
            for character in text:
                yield Token(0, arm, 1, character)
            yield Answer(0, arm, text, (1,), "stop")

    monkeypatch.setattr("cna_mlx.chat.conversation.generate_arms", answer)
    circuit = Circuit.from_text(circuit_text, "here")
    screen = make_screen(width, terminal=terminal)
    arms = [Arm.of(circuit, 0.0, "ablated")]
    conversation = Conversation(Session.of(*tiny), arms, is_ablating=True)
    run_chat(screen, conversation, io.StringIO("x\n" * len(texts)))
    assert len(conversation.turns) == len(texts)
    raw = sent(screen.out)
    if not terminal:
        assert "\x1b" not in raw
    # Live moves the cursor up and returns: that, and nothing of the model's.
    assert not unsafe(plain(raw).replace("\n", "").replace("\r", ""))
    assert "\x1b[2J\x1b[H" not in raw
    assert "\x1b]0;" not in raw
    shown = squeezed(plain(raw))
    if terminal:
        lines = plain(raw).replace("\r", "\n").splitlines()
        shown = "".join(squeezed(one) for one in columns(lines, "│"))
    for text in texts:
        assert squeezed(visible(text)) in shown


# -------------------------------------------------------------------- the tables


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", WIDTHS)
def test_tables_fit_and_lose_nothing(
    width: int, encoding: str, circuit_text: str
) -> None:
    from cna_mlx.models.catalogue import entries
    from cna_mlx.models.memory.machine import Machine

    circuit = Circuit.from_text(circuit_text, "here")

    def lines(view: Any, screen: Screen) -> str:
        found = printed(screen.out, view)
        assert max(map(cell_len, found)) <= width
        text = "\n".join(found)
        assert "…" not in text
        assert "\\u2026" not in text
        return text

    screen = make_screen(width, encoding=encoding)
    shown = lines(circuit_view(screen, circuit, 5), screen)
    assert "red-vs-blue (4/4)" in shown
    assert "the first 5 neurons" in shown
    screen = make_screen(width, encoding=encoding)
    machine = Machine(16 * 10**9, 12 * 10**9)
    catalogue = lines(catalogue_view(screen, entries(), machine), screen)
    assert "mlx-community/Llama-3.2-1B-Instruct-4bit" in catalogue
    screen = make_screen(width, encoding=encoding)
    sets = [load_contrast(name) for name in contrast_names()]
    shown = squeezed(lines(prompt_sets_view(screen, sets), screen))
    for one in sets:
        assert width == 40 or one.name in shown  # there a name may be folded


@pytest.mark.parametrize("width", [60, 80, 100, 110, 113, 114, 115, 116, 117, 118, 160])
def test_no_cell_of_the_catalogue_is_cut(width: int) -> None:
    """At every width its columns are whole, the others' facts stand by the names."""
    from cna_mlx.models.catalogue import entries, others
    from cna_mlx.models.memory.machine import Machine

    screen = make_screen(width)
    machine = Machine(16 * 10**9, 12 * 10**9)
    known = [*entries(), *others()]
    text = "\n".join(printed(screen.out, catalogue_view(screen, known, machine)))
    for title in ("discover", "streamed", "here"):
        assert title in text.splitlines()[1]
    for cell in (" 39.7 GB ", "Llama-3.1-70B ", " streamed ", "Qwen3.5-35B-A3B "):
        assert cell in text
    assert "2,293,760" in text
    assert "141.2 GB" in text
    assert "a token uses 8 of 128 experts, 3.35 of 30.53" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_how_neurons_are_routed_follows_apart_where_it_does_not_fit(
    terminal: bool,
) -> None:
    details = (Details(positive_routed=0.5, negative_routed=0.25),)
    moments = (Moments(-1.5, 1.0, 0.5, 1.0),)
    model = ModelEntry(d_ff=(8,), experts=((2, 4, 1),))
    circuit = Circuit((Neuron(0, 6, -2.0),), moments, model, details=details)
    heads = {}
    for width in (80, 160):
        screen = make_screen(width, terminal=terminal)
        screen.show(circuit_view(screen, circuit))
        lines = plain(sent(screen.out)).splitlines()
        assert max(map(cell_len, lines)) <= width
        heads[width] = [
            " ".join(x.split()) for x in lines if "layer expert:neuron" in x
        ]
        assert [x.split()[-1] for x in lines if " 1:2 " in x][-1] == "-5.0000"
    measured = "layer expert:neuron delta Cohen's d positive mean negative mean"
    routed = "positive routed negative routed delta if routed"
    assert heads[80] == [measured, f"layer expert:neuron {routed}"]
    assert heads[160] == [f"{measured} {routed}"]


def test_an_empty_circuit_can_be_shown() -> None:
    screen = make_screen()
    lines = printed(screen.out, circuit_view(screen, Circuit(())))
    assert any("none" in line for line in lines)


def test_bars_are_as_long_as_their_layers() -> None:
    circuit = Circuit.from_neurons(
        [*((0, n, 1.0) for n in range(20)), *((2, n, 1.0) for n in range(5))]
    )
    screen = make_screen()
    lines = [
        line.rstrip() for line in printed(screen.out, circuit_view(screen, circuit))
    ]
    bars = {line.split()[0]: line.count("█") for line in lines if "█" in line}
    assert bars == {"0": 40, "2": 10}
    assert "    1   0" in lines


def test_progress_is_silent_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    from cna_mlx.ui.console import screen

    screen.cache_clear()
    with progress_bar("layers") as listen:
        listen("Reading", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_download_is_silent_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    from cna_mlx.ui.console import screen

    screen.cache_clear()
    with progress_bar("bytes") as listen:
        listen("Fetching", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_long_step_speaks_on_a_pipe_also_between_its_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cna_mlx.ui.console import screen

    screen.cache_clear()
    monkeypatch.setattr("cna_mlx.ui.progress.EVERY", 0.02)
    with progress_bar("prompts") as listen:
        time.sleep(0.1)  # nothing is reported yet
        listen("Answering", 1, 40)
        listen("Answering", 2, 40)
        time.sleep(0.1)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("still at work, ")
    assert re.fullmatch(r"Answering: 2 of 40 prompts, 1 s, about \d+ s left", lines[-1])
    assert 4 <= len(lines) <= 12
    time.sleep(0.1)
    assert capsys.readouterr() == ("", "")


def test_counts_of_a_search_are_said_on_a_pipe_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = make_screen(terminal=False)

    def table(counts: Any) -> Any:
        raise AssertionError("a pipe has no table")

    for every, said in ((60.0, ""), (0.0, "2 tried\n3 tried\n")):
        monkeypatch.setattr("cna_mlx.ui.search.EVERY", every)
        with counts_view(screen, lambda one: f"{len(one)} tried", table) as show:
            for counts in ((1, 2), (), (1, 2, 3)):
                show(counts)
        assert sent(screen.err) == said


@pytest.mark.parametrize(
    ("typed", "is_yes"), [("y", True), (" Yes ", True), ("n", False), (None, False)]
)
def test_a_question_of_the_chat(typed: str | None, is_yes: bool) -> None:
    screen = make_screen()
    assert _is_yes(screen, "a.json exists. Replace it?", lambda: typed) is is_yes
    assert "Replace it? (y or n)" in plain(sent(screen.err))
    assert sent(screen.out) == ""


def test_the_time_left_stands_also_where_a_step_takes_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = make_screen(100)
    monkeypatch.setattr("cna_mlx.ui.progress.screen", lambda: terminal)
    now = [0.0]
    monkeypatch.setattr("cna_mlx.ui.progress.Pace", lambda: Pace(lambda: now[0]))
    with progress_bar("prompts") as listen:
        listen("Answering", 0, 4)
        now[0] = 400.0
        listen("Answering", 1, 4)
        time.sleep(0.3)
        drawn = plain(sent(terminal.err))
    assert "20:00" in drawn.split("1/4")[-1]


def test_a_bar_has_a_title_before_its_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = make_screen(100)
    monkeypatch.setattr("cna_mlx.ui.progress.screen", lambda: terminal)
    with progress_bar("prompts"):
        time.sleep(0.2)
        assert "Starting" in plain(sent(terminal.err))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_download_is_drawn_in_bytes(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """From its first byte to its last, and then it is gone."""
    terminal = make_screen(100, encoding=encoding)
    monkeypatch.setattr("cna_mlx.ui.progress.screen", lambda: terminal)
    with progress_bar("bytes") as listen:
        assert sent(terminal.err) == ""
    assert sent(terminal.err) == ""  # nothing had to be fetched
    with progress_bar("bytes") as listen:
        listen("Fetching", 450_000_000, 1_800_000_000)
        listen("Fetching", 1_800_000_000, 1_800_000_000)
        drawn = sent(terminal.err)
        assert "Fetching" in plain(drawn)
        assert "1.8/1.8 GB" in plain(drawn)
        assert drawn.endswith("\x1b[2K")  # the line was wiped: what follows is plain
    assert sent(terminal.err) == drawn


def test_notes_do_not_act() -> None:
    screen = make_screen(terminal=False)
    screen.note("a \x1b[2J [red] \u202e b")
    assert sent(screen.err) == "a \\x1b[2J [red] \\u202e b\n"
    assert sent(screen.out) == ""


def test_a_path_stays_whole_where_words_are_wrapped() -> None:
    path = "/Users/somebody/" + "a-long-name/" * 6 + "report.html"
    screen = make_screen(width=60)
    screen.note(f"the report: {path} (cna-mlx report a-name-of-a-run-that-is-long)")
    screen.note("words " * 14)
    lines = [line.rstrip() for line in plain(sent(screen.err)).splitlines()]
    assert lines[:3] == [
        "the report:",
        path,
        "(cna-mlx report a-name-of-a-run-that-is-long)",
    ]
    assert max(map(len, lines[3:])) <= 60


def test_a_command_is_one_line_on_the_screen() -> None:
    command = f"cna-mlx search {'a-model/' * 12} --contrast refusal"
    verdict = Verdict(Outcome.HELD, "held", (), "Next: search", (command,))
    screen = make_screen(width=60)
    screen.show(headline_view(screen, verdict))
    lines = plain(sent(screen.out)).splitlines()
    assert [line.rstrip() for line in lines[1:]] == [
        "held",
        "Next: search",
        f"  {command}",
    ]


def test_an_audit_says_what_harmful_means(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    noted = replace(run.config.sets[0], note="harmful means magic")
    config = replace(run.config, sets=(noted, *run.config.sets[1:]))
    summary = replace(summarize(run), run=replace(run, config=config))
    screen = make_screen()
    screen.show(discovery_lines(screen, summary))
    assert "harmful-set: harmful means magic." in plain(sent(screen.out))


def test_visible_leaves_what_can_be_seen() -> None:
    for text in ("plain", "naïve 你好 👩\u200d👧 ❤️", "a\n\tb", ""):
        assert visible(text) == text
    assert visible("\x1b\r\x9b\u202e\udcff\u2028\U000e0041") == (
        "\\x1b\\r\\x9b\\u202e\\udcff\\u2028\\U000e0041"
    )
    assert visible("é😀", ascii_only=True) == "\\xe9\\U0001f600"
