"""The conversation and its commands, without a terminal; and the chat on a pipe."""

import io
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chats import ask, texts
from commandline import make_screen, sent
from texts import missing

from cna_mlx import Arm, Circuit, Rendering, Token
from cna_mlx.chat.commands import COMMANDS, run_command
from cna_mlx.chat.conversation import Conversation, Turn
from cna_mlx.chat.transcripts import as_json
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CircuitError, CnaError, InputError
from cna_mlx.steering import decoding
from cna_mlx.steering.arms import BASELINE
from cna_mlx.ui.chat import run_chat
from cna_mlx.ui.lines import is_open, unquoted
from cna_mlx.util.interrupt import Interrupt
from cna_mlx.util.progress import Reporter

Make = Callable[..., Conversation]


@pytest.fixture
def circuit(circuit_text: str) -> Circuit:
    return Circuit.from_text(circuit_text, "here")


@pytest.fixture
def make(tiny: tuple[Any, Any], circuit: Circuit) -> Make:
    def conversation(**options: Any) -> Conversation:
        chosen = options.pop("circuit", circuit)
        multiplier = options.pop("multiplier", 0.0)
        arms = [Arm.of(chosen, multiplier, "ablated")] if chosen else []
        session = Session.of(*tiny, options.pop("rendering", None))
        find = options.pop("find_circuit", None)
        known = {"is_ablating": True, "max_tokens": 12, "multiplier": multiplier}
        made = Conversation(session, arms, **{**known, **options})
        if find:
            made.find_circuit = find
        return made

    return conversation


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each prefill had to compute, in order."""
    lengths: list[int] = []

    def noted(step: Any) -> Any:
        def note(model: Any, ids: Any, *rest: Any) -> Any:
            prompts = ids if isinstance(ids[0], list) else [ids]
            lengths.extend(map(len, prompts))
            return step(model, ids, *rest)

        return note

    for name in ("prefill", "prefill_prompts", "shared_prefill"):
        monkeypatch.setattr(decoding, name, noted(getattr(decoding, name)))
    return lengths


# ------------------------------------------------------------------------ turns


def test_both_arms_answer_and_are_remembered(make: Make) -> None:
    conversation = make()
    events = list(conversation.turn("one red stone"))
    turn = events[-1]
    assert isinstance(turn, Turn)
    baseline, steered = turn.result.arms
    assert (baseline.multiplier, steered.multiplier) == (1, 0)
    assert baseline.text != steered.text  # or nothing here says anything
    assert turn.histories_differ
    assert turn.tokens == sum(isinstance(event, Token) for event in events)
    assert turn.dropped == 0
    assert conversation.turns == [turn]
    for arm in turn.result.arms:
        assert conversation.histories[arm.arm.label] == [
            {"role": "user", "content": "one red stone"},
            {"role": "assistant", "content": arm.text},
        ]


def test_the_first_turn_is_what_the_arm_says_alone(make: Make) -> None:
    both = texts(ask(make()))
    assert texts(ask(make(is_ablating=False))) == both[:1]
    assert texts(ask(make(multiplier=1.0)))[1] == both[0]


def test_the_second_turn_meets_each_arms_own_history(make: Make, fed: Any) -> None:
    conversation = make()
    ask(conversation)
    fed.clear()
    second = ask(conversation, "two blue birds")
    assert len(fed) == 2
    kept = {label: list(h) for label, h in conversation.histories.items()}
    assert len(kept["ablated"]) == len(kept[BASELINE.label]) == 4
    assert kept["ablated"][1] != kept[BASELINE.label][1]
    # A conversation of this history without any cache says the same.
    fresh = make()
    fresh.histories = {label: h[:2] for label, h in kept.items()}
    assert texts(ask(fresh, "two blue birds")) == texts(second)


def test_the_cache_saves_the_earlier_turns(make: Make, fed: list[int]) -> None:
    conversation = make()
    ask(conversation, "one red stone and many more words " * 8)
    whole = fed[0]
    assert whole > 100
    fed.clear()
    ask(conversation, "and?")
    assert len(fed) == 2
    assert max(fed) < 40


def test_an_interrupted_answer_is_kept_as_text(make: Make) -> None:
    conversation = make(max_tokens=40)
    seen = 0

    def stop() -> bool:
        return seen >= 8

    events: list[Any] = []
    for event in conversation.turn("one red stone", stop):
        seen += 1
        events.append(event)
    turn = events[-1]
    assert {arm.finish for arm in turn.result.arms} == {"interrupted"}
    for arm in turn.result.arms:
        assert 0 < len(arm.token_ids) < 40
        assert conversation.histories[arm.arm.label][-1]["content"] == arm.text
    assert texts(ask(conversation, "go on"))  # and the chat goes on
    assert [message["content"] for message in conversation.histories["ablated"]][2] == (
        "go on"
    )


def test_an_answer_stopped_before_its_first_word_is_not_remembered(make: Make) -> None:
    conversation = make()
    *_, turn = conversation.turn("one red stone", lambda: True)
    assert isinstance(turn, Turn)
    assert [arm.text for arm in turn.result.arms] == ["", ""]
    assert all(history == [] for history in conversation.histories.values())
    assert texts(ask(conversation)) == texts(ask(make()))


def test_an_answer_broken_off_leaves_the_conversation_as_it_was(make: Make) -> None:
    conversation = make()
    ask(conversation)
    before = {label: list(h) for label, h in conversation.histories.items()}
    answer = conversation.turn("two blue birds")
    next(answer)
    with pytest.raises(KeyboardInterrupt):
        answer.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert conversation.histories == before
    expected = make()
    ask(expected)
    again = ask(conversation, "three red doors")
    assert texts(again) == texts(ask(expected, "three red doors"))


def test_a_full_context_drops_the_oldest_turns_and_says_so(
    make: Make, tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny[0].args, "max_position_embeddings", 150)
    conversation = make()
    dropped = [ask(conversation, f"stone {n} and a bird").dropped for n in range(6)]
    assert dropped[0] == 0
    assert any(dropped)
    history = conversation.histories[BASELINE.label]
    assert history[0]["role"] == "user"
    assert history[0]["content"] != "stone 0 and a bird"
    assert history[-2]["content"] == "stone 5 and a bird"
    assert len(conversation.histories["ablated"]) == len(history)
    saved = json.loads(as_json(conversation))
    assert [turn["dropped_turns"] for turn in saved["turns"]] == dropped
    screen = make_screen(terminal=False)
    run_chat(screen, conversation, io.StringIO("one more\n"))
    assert re.search(r"turns? 1.* dropped", sent(screen.err))


def test_a_message_that_never_fits_is_refused(
    make: Make, tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny[0].args, "max_position_embeddings", 150)
    conversation = make()
    ask(conversation)
    before = {label: list(h) for label, h in conversation.histories.items()}
    with pytest.raises(InputError, match="shorten it"):
        ask(conversation, "red stone " * 100)
    assert conversation.histories == before
    assert ask(conversation, "a bird").result.arms[0].token_ids


def test_an_arm_that_was_off_continues_from_the_baseline(make: Make) -> None:
    conversation = make()
    ask(conversation)
    run_command(conversation, "/ablate off")
    ask(conversation, "two blue birds")
    run_command(conversation, "/ablate on")
    ask(conversation, "three red doors")
    baseline, steered = (
        conversation.histories[label] for label in (BASELINE.label, "ablated")
    )
    assert steered[:4] == baseline[:4]
    assert len(steered) == len(baseline) == 6


def test_an_arm_that_was_off_while_turns_were_dropped_does_too(
    make: Make, tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny[0].args, "max_position_embeddings", 125)
    conversation = make()
    for n in range(6):
        ask(conversation, f"stone {n} and a bird")
    run_command(conversation, "/ablate off")
    ask(conversation, "what was asked alone")  # drops one, adds one: the same length
    lengths = {len(history) for history in conversation.histories.values()}
    assert len(lengths) == 1  # or this says nothing
    run_command(conversation, "/ablate on")
    ask(conversation, "what is asked of both")
    for history in conversation.histories.values():
        asked = [message["content"] for message in history[::2]]
        assert asked[-2:] == ["what was asked alone", "what is asked of both"]


def test_sampled_chats_repeat_with_their_seed(make: Make) -> None:
    def two(seed: int) -> list[str]:
        conversation = make(temperature=1.0, seed=seed)
        return [*texts(ask(conversation)), *texts(ask(conversation))]

    assert two(3) == two(3)
    assert two(3) != two(4)


# --------------------------------------------------------------------- commands


def test_every_command_is_listed(make: Make) -> None:
    grid = run_command(make(), "/help").grid
    assert grid is not None
    listed = dict(grid.rows)
    assert set(COMMANDS) == {
        *("/help", "/ablate", "/multiplier", "/view", "/circuit", "/contrast"),
        "/search",
        *("/neurons", "/where", "/why", "/sweep", "/show", "/set", "/system", "/align"),
        *("/retry", "/undo", "/clear", "/save", "/load", "/export", "/bye"),
    }
    for command in COMMANDS.values():
        assert listed[command.usage] == command.help
    assert "several lines" in listed['"""']


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/nosuch", "/nosuch"),
        ("/abl", "/ablate"),
        ("/mult 0", "did you mean /multiplier?"),
        ("/hlep", "did you mean /help?"),
        ("/nope", "/nope: unknown command; /help lists the commands"),
        ("/new", "/new: unknown command; /help lists the commands"),
        ("/Help", "/help"),
        ("/", "/help"),
        ("/temp 0.8", "did you mean /set temp?"),
        ("/num_predict 9", "did you mean /set max-tokens?"),
        ("/etc/passwd is a file", "/help"),
        ("/ablate", "/ablate on"),
        ("/ablate maybe", "/ablate on"),
        ("/multiplier", "/multiplier X"),
        ("/multiplier much", "/multiplier X"),
        ("/multiplier nan", "finite"),
        ("/multiplier inf", "finite"),
        ("/multiplier 1e999", "finite"),
        ("/view all", "both|baseline|ablated"),
        ("/view", "both|baseline|ablated"),
        ("/circuit", "FILE"),
        ("/save", "/save FILE"),
        ("/save /nowhere/at/all.json", "/nowhere/at/all.json"),
    ],
)
def test_lines_that_are_no_command(line: str, said: str, make: Make) -> None:
    conversation = make()
    state = (conversation.multiplier, conversation.view, conversation.is_ablating)
    with pytest.raises(InputError) as caught:
        run_command(conversation, line)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    now = (conversation.multiplier, conversation.view, conversation.is_ablating)
    assert now == state
    assert conversation.turns == []


def test_settings_by_the_names_of_other_chats(make: Make) -> None:
    conversation = make()
    run_command(conversation, "/set parameter temperature 0.8")
    run_command(conversation, "/set num_predict 9")
    run_command(conversation, "/set top_k 3")
    found = conversation.temperature, conversation.max_tokens, conversation.top_k
    assert found == (0.8, 9, 3)


def test_ablate_off_and_on(make: Make) -> None:
    conversation = make()
    run_command(conversation, "/ablate off")
    assert len(ask(conversation).result.arms) == 1
    reply = run_command(conversation, "/ablate on")
    assert missing(reply.text, "32 neurons", " 0") == []
    assert len(ask(conversation).result.arms) == 2


def test_ablate_on_finds_a_circuit_once(make: Make, circuit: Circuit) -> None:
    found: list[int] = []

    def find() -> Circuit:
        found.append(1)
        return circuit

    conversation = make(circuit=None, is_ablating=False, find_circuit=find)
    assert len(ask(conversation).result.arms) == 1
    for line in ("/ablate on", "/ablate off", "/ablate on"):
        run_command(conversation, line)
    assert found == [1]
    assert len(ask(conversation).result.arms) == 2


def test_a_circuit_that_cannot_be_found_leaves_the_arm_off(make: Make) -> None:
    def fail() -> Circuit:
        raise CnaError("no")

    conversation = make(circuit=None, is_ablating=False, find_circuit=fail)
    with pytest.raises(CnaError):
        run_command(conversation, "/ablate on")
    assert not conversation.is_ablating
    assert len(ask(conversation).result.arms) == 1


def test_another_multiplier_drops_the_steered_cache_only(
    make: Make, fed: list[int]
) -> None:
    conversation = make()
    ask(conversation, "one red stone and many more words " * 8)
    fed.clear()
    assert "2" in run_command(conversation, "/multiplier 2").text
    turn = ask(conversation, "and?")
    baseline, steered = fed
    assert baseline < 40 < 100 < steered
    assert turn.result.arms[1].multiplier == 2
    fed.clear()
    run_command(conversation, "/multiplier 2")  # the same again: nothing is dropped
    ask(conversation, "and?")
    assert max(fed) < 60


def test_another_circuit_drops_the_steered_cache_only(
    make: Make, fed: list[int], circuit: Circuit, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    circuit.strongest(3).save(path)
    conversation = make()
    ask(conversation, "one red stone and many more words " * 8)
    fed.clear()
    reply = run_command(conversation, f"/circuit {path}")
    assert missing(reply.text, "3 neurons", str(path)) == []
    ask(conversation, "and?")
    baseline, steered = fed
    assert baseline < 40 < 100 < steered


def test_a_circuit_with_a_multiplier_turns_the_arm_on(
    make: Make, circuit: Circuit, tmp_path: Path
) -> None:
    path = tmp_path / "my file.json"
    circuit.save(path)
    conversation = make(circuit=None, is_ablating=False)
    run_command(conversation, f"/circuit {path}@0.5")
    assert conversation.circuit == circuit
    assert ask(conversation).result.arms[1].multiplier == 0.5


def test_a_bad_circuit_leaves_the_old_one(make: Make, tmp_path: Path) -> None:
    conversation = make()
    before = conversation.circuit
    path = tmp_path / "x.json"
    Circuit.from_neurons([(0, 10**6)]).save(path)
    for name in (path, tmp_path / "nowhere.json"):
        with pytest.raises(CircuitError, match=re.escape(str(name))):
            run_command(conversation, f"/circuit {name}")
    assert conversation.circuit is before


def test_the_system_prompt_reaches_the_model(make: Make, fed: list[int]) -> None:
    plain = make(is_ablating=False)
    ask(plain)
    conversation = make(is_ablating=False)
    ask(conversation)
    fed.clear()
    assert run_command(conversation, "/system You only speak of stones.").text
    assert conversation.rendering.system == "You only speak of stones."
    with_system = texts(ask(conversation, "two blue birds"))
    assert with_system != texts(ask(plain, "two blue birds"))
    assert fed[0] > 30  # the kept cache began otherwise
    assert "no system" in run_command(conversation, "/system").text
    assert conversation.rendering == Rendering()


def test_clear_begins_anew(make: Make, fed: list[int]) -> None:
    conversation = make()
    first = texts(ask(conversation))
    ask(conversation, "two blue birds")
    run_command(conversation, "/clear")
    assert conversation.turns == []
    assert not conversation.histories_differ
    fed.clear()
    assert texts(ask(conversation)) == first
    assert len(fed) == 1  # one prefill for both: there was nothing to reuse


def test_bye(make: Make) -> None:
    assert run_command(make(), "/bye").is_over
    assert not run_command(make(), "/help").is_over


def test_views(make: Make) -> None:
    conversation = make()
    for view in ("baseline", "ablated", "both"):
        assert view in run_command(conversation, f"/view {view}").text
        assert conversation.view == view
    alone = make(is_ablating=False)
    assert "/ablate on" in run_command(alone, "/view ablated").text


def test_save_as_json(make: Make, tmp_path: Path) -> None:
    conversation = make(multiplier=0.5, rendering=Rendering(system="Be brief."))
    turns = [ask(conversation), ask(conversation, "zwei blaue Vögel 😀")]
    path = tmp_path / "a chat.json"
    assert str(path) in run_command(conversation, f"/save {path}").text
    data = json.loads(path.read_text(encoding="utf-8"))
    assert [turn["prompt"] for turn in data["turns"]] == [
        "one red stone",
        "zwei blaue Vögel 😀",
    ]
    for saved, turn in zip(data["turns"], turns, strict=True):
        assert [arm["text"] for arm in saved["arms"]] == texts(turn)
        assert [arm["multiplier"] for arm in saved["arms"]] == [1, 0.5]
    assert data["rendering"]["system"] == "Be brief."
    assert data["model"].endswith("llama_rope3")
    assert len(data["arms"][0]["circuit"]["neurons"]) == 32
    assert (data["temperature"], data["seed"], data["max_tokens"]) == (0.0, 0, 12)


def test_save_as_markdown(make: Make, tmp_path: Path) -> None:
    conversation = make()
    turn = ask(conversation, "one\nred stone")
    path = tmp_path / "chat.md"
    run_command(conversation, f"/save {path}")
    text = path.read_text(encoding="utf-8")
    assert "## one red stone\n" in text
    assert "**baseline** (m = 1)" in text
    assert "**ablated** (m = 0)" in text
    for arm in turn.result.arms:
        assert str(arm.label.kind) in text
        for line in arm.text.splitlines():
            assert f"> {line}" in text


def test_saving_an_empty_chat(make: Make, tmp_path: Path) -> None:
    for name in ("empty.json", "empty.md"):
        run_command(make(circuit=None), f"/save {tmp_path / name}")
    assert json.loads((tmp_path / "empty.json").read_text())["turns"] == []


# --------------------------------------------------------------------- composer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one", "one"),
        ("", ""),
        (" two ", " two "),
        ('"""one\n/two\n  three"""', "one\n/two\n  three"),
        ('  """one"""  ', "one"),
        ('"""\none\n\ntwo\n"""', "one\n\ntwo"),
        ('"""one line"""', "one line"),
        ('"""say "hi"\n"""', 'say "hi"'),
        ('""""""', ""),
        ('say """hi"""', 'say """hi"""'),  # only where a message begins
    ],
)
def test_three_quotes_hold_several_lines(text: str, message: str) -> None:
    assert not is_open(text)
    assert unquoted(text) == message


@pytest.mark.parametrize("text", ['"""', '"""one', ' """one\ntwo', '""""', '"""""'])
def test_a_message_is_open_until_three_more_quotes(text: str) -> None:
    assert is_open(text)
    assert not is_open(f'{text}\n"""')
    assert unquoted(text) == unquoted(f'{text}\n"""')  # the input ended within it


# ------------------------------------------------------------------- on a pipe


def pipe(conversation: Conversation, text: str, width: int = 80) -> tuple[str, str]:
    screen = make_screen(width, terminal=False)
    run_chat(screen, conversation, io.StringIO(text))
    return sent(screen.out), sent(screen.err)


def test_a_chat_on_a_pipe(make: Make) -> None:
    conversation = make()
    out, err = pipe(
        conversation, "one red stone\n\n   \n/view ablated\ntwo\n/bye\nno\n"
    )
    assert "\x1b" not in out + err
    assert [turn.result.prompt for turn in conversation.turns] == [
        "one red stone",
        "two",
    ]
    first, second = conversation.turns
    for arm in first.result.arms:
        assert str(arm.label.kind) in out
    assert "> one red stone\n" in out  # the transcript holds the questions
    assert out.count("baseline  ") == 1  # not in the second turn, which shows one arm
    assert out.count("ablated  ") == 2
    assert "tokens/s" in err
    assert "histories differ" in err
    assert second.result.arms[1].token_ids


def test_loading_is_announced_before_the_greeting() -> None:
    screen = make_screen(terminal=False)
    session = Session("demo", reporter=Reporter(note=screen.note))
    run_chat(screen, Conversation(session, []), io.StringIO(""))
    first, second = sent(screen.err).splitlines()
    assert first == "loading demo"
    assert second.startswith("demo: baseline. /help lists")


def test_an_unknown_command_is_refused_and_not_sent(make: Make) -> None:
    conversation = make()
    out, err = pipe(conversation, "/nosuch thing\n /etc/passwd\n")
    assert "/nosuch" in err
    assert [turn.result.prompt for turn in conversation.turns] == ["/etc/passwd"]
    assert out.count("/nosuch") == 1  # the line as it was typed


def test_several_lines_on_a_pipe(make: Make) -> None:
    conversation = make()
    pipe(conversation, '"""one\n/two\n\nthree"""\n"""left open\nto the end\n')
    assert [turn.result.prompt for turn in conversation.turns] == [
        "one\n/two\n\nthree",
        "left open\nto the end",
    ]


def test_windows_line_ends_and_a_missing_last_one(make: Make) -> None:
    conversation = make()
    pipe(conversation, "one\r\ntwo")
    assert [turn.result.prompt for turn in conversation.turns] == ["one", "two"]


def test_bytes_of_another_locale_are_read_as_utf_8(make: Make) -> None:
    conversation = make(is_ablating=False)
    source = io.TextIOWrapper(
        io.BytesIO("café\n".encode() + b"\xff\n/bye\n"), encoding="ascii"
    )
    run_chat(make_screen(terminal=False), conversation, source)
    prompts = [turn.result.prompt for turn in conversation.turns]
    assert prompts == ["café", "\ufffd"]
    assert json.loads(as_json(conversation))["turns"][0]["prompt"] == "café"


def test_a_refused_message_does_not_end_the_chat(
    make: Make, tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny[0].args, "max_position_embeddings", 150)
    conversation = make()
    _, err = pipe(conversation, "red stone " * 100 + "\none\n")
    assert "shorten it" in err
    assert [turn.result.prompt for turn in conversation.turns] == ["one"]


def test_an_interrupt_while_a_line_is_awaited_does_not_end_the_chat(
    make: Make,
) -> None:
    class Impatient(io.StringIO):
        presses = 2

        def readline(self, *arguments: Any) -> str:
            if self.tell() and self.presses:
                self.presses -= 1
                raise KeyboardInterrupt
            return super().readline(*arguments)

    screen = make_screen(terminal=False)
    conversation = make()
    run_chat(screen, conversation, Impatient('"""one\ntwo\n'))
    # the open message was given up, the next line stands alone
    assert [turn.result.prompt for turn in conversation.turns] == ["two"]
    assert missing(sent(screen.err), "Ctrl-D", "/bye") == []


def test_an_interrupted_command_does_not_end_the_chat(make: Make) -> None:
    def find() -> Circuit:
        raise KeyboardInterrupt

    conversation = make(circuit=None, is_ablating=False, find_circuit=find)
    _, err = pipe(conversation, "/ablate on\none\n")
    assert "interrupted" in err
    assert len(conversation.turns) == 1


def test_the_second_ctrl_c_breaks_off() -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupt = Interrupt()
    assert not interrupt()
    with interrupt.watching():
        signal.raise_signal(signal.SIGINT)
        assert interrupt()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with interrupt.watching():
        assert not interrupt()  # each answer begins with none


def test_an_answer_broken_off_does_not_end_the_chat(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = make()
    turn = conversation.turn

    def broken(text: str, stop: Any) -> Iterator[Any]:
        for event in turn(text, stop):
            yield event
            if text == "one":
                raise KeyboardInterrupt

    monkeypatch.setattr(conversation, "turn", broken)
    out, err = pipe(conversation, "one\ntwo\n")
    assert "interrupted" in err
    assert [turn.result.prompt for turn in conversation.turns] == ["two"]
    assert out.count("baseline") == 1
