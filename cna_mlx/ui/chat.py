"""The chat: arms that stream side by side in a terminal, plain text on a pipe."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.chat.commands import run_command
from cna_mlx.chat.conversation import Conversation, Turn
from cna_mlx.chat.journal import ChatJournal
from cna_mlx.chat.reply import Reply
from cna_mlx.chat.transcripts import facts, turn_remarks
from cna_mlx.circuit import Circuit
from cna_mlx.errors import CnaError
from cna_mlx.labels.thoughts import cut_thoughts
from cna_mlx.models.hub.errors import first_line
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.prompts.chat_template import injected_system
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.diff import PromptResult
from cna_mlx.steering.events import Gauged
from cna_mlx.strength import effect_text
from cna_mlx.ui.console import Screen
from cna_mlx.ui.diff import arms_view, gauge_lines, prompt_view, summary
from cna_mlx.ui.lines import Read, plain_lines, unquoted
from cna_mlx.ui.live import Growing
from cna_mlx.ui.picture import save_picture
from cna_mlx.ui.search import live_table
from cna_mlx.ui.tables import grid_view
from cna_mlx.ui.words import first_tokens_view, words_view
from cna_mlx.util import ranks
from cna_mlx.util.formatting import counted
from cna_mlx.util.interrupt import Interrupt

_ALL_REFUSE = (
    "{} refuse, which is common: /search looks for a circuit that decides (15 minutes "
    "at most), /sweep tries other multipliers; /why needs an answer that differs"
)


def run_chat(
    screen: Screen,
    conversation: Conversation,
    source: IO[str] | None = None,
    history: Path | None = None,
    journals: Path | None = None,
) -> None:
    """Answer messages from standard input, or a source, until it ends or `/bye`.

    What was typed is kept for the next session in the ``history`` file, and the
    conversation in ``journals`` until the chat ends.
    """
    reader = _reader(screen, source or sys.stdin, history)

    def read() -> str | None:
        return ranks.first(reader)

    conversation.export = _export
    if screen.is_live and (source or sys.stdin).isatty():
        conversation.confirm = lambda question: _is_yes(screen, question, read)
    _greet(screen, conversation)
    journal = ChatJournal(journals if ranks.is_first() else None)
    with ranks.apart():
        left = journal.recover()
    if left:
        more = f" ({left.others} more will be offered later)" if left.others else ""
        screen.note(
            f"a chat was killed or crashed ({left.title}): /load {left.path} continues "
            f"it{more}"
        )
    _hold(screen, conversation, read, journal)
    journal.close()


def _hold(
    screen: Screen, conversation: Conversation, read: Read, journal: ChatJournal
) -> None:
    """Answer line by line; whatever one line does, the next is read."""
    while True:
        try:
            text = read()
        except KeyboardInterrupt:
            screen.note("(Ctrl-D or /bye leaves)")
            continue
        if text is None:
            return
        try:
            if _take(screen, conversation, text):
                return
        except BrokenPipeError:
            raise
        except Exception as error:
            if os.environ.get("CNA_MLX_DEBUG") or ranks.is_lost(error):
                raise
            what = f"unexpected {type(error).__name__}: {first_line(error)}"
            screen.note(f"{what}; please report it", style="yellow")
        journal.write(conversation)


def _take(screen: Screen, conversation: Conversation, text: str) -> bool:
    """Run a command or answer a message; return whether the chat is over."""
    message: str | None = unquoted(text).strip()
    if text.startswith("/"):
        reply = _command(screen, conversation, text)
        if reply.is_over:
            return True
        message = reply.ask
    if message:
        _try_answer(screen, conversation, message)
    return False


def answer_once(
    screen: Screen, conversation: Conversation, messages: Sequence[str]
) -> bool:
    """Answer messages as turns of one conversation; return whether all were.

    Raises:
        CnaError: a message cannot be answered.
    """
    for message in messages:
        _answer(screen, conversation, message)
        if conversation.turns[-1].is_interrupted:
            return False
    return True


def _reader(screen: Screen, source: IO[str], history: Path | None) -> Read:
    if isinstance(source, TextIOWrapper):  # messages are UTF-8 in every locale
        source.reconfigure(encoding="utf-8", errors="surrogateescape")
    if source is sys.stdin and source.isatty() and screen.is_live:
        # imported here: a pipe does not wait for prompt_toolkit
        from cna_mlx.ui.line_editor import line_editor

        return line_editor(screen, history)
    return plain_lines(screen, source)


def _is_yes(screen: Screen, question: str, read: Read) -> bool:
    screen.note(f"{question} (y or n)")
    return (read() or "").strip().lower() in ("y", "yes")


def _greet(screen: Screen, chat: Conversation) -> None:
    # first, since it loads a model that nothing needed yet, and says so
    system = injected_system(chat.session.tokenizer, chat.rendering)
    arms = "baseline"
    if len(chat.arms) > 2:
        arms = ", ".join(arm.title for arm in chat.arms)
    elif chat.is_ablating and chat.circuit:
        count = counted(len(chat.circuit.neurons), "neuron")
        arms = f"baseline and {count} {effect_text(chat.multiplier)}"
    name = chat.session.name
    screen.note(f"{name}: {arms}. /help lists the commands, Ctrl-D leaves.")
    if system:
        screen.note(f"the template's own system prompt: {system}")


def _command(screen: Screen, conversation: Conversation, line: str) -> Reply:
    """Run a command and show its reply."""
    try:
        with live_table(screen) as conversation.searched:
            reply = run_command(conversation, line)
    except CnaError as error:
        screen.note(str(error), style="yellow")
        return Reply("")
    except KeyboardInterrupt:
        screen.note("interrupted", style="yellow")
        return Reply("")
    if reply.text and reply.is_data:
        screen.show(screen.safe(reply.text))
    elif reply.text:
        screen.note(reply.text, style="cyan")
    if reply.grid:
        screen.show(grid_view(screen, reply.grid))
    if reply.words:
        screen.show(words_view(screen, reply.words))
    if reply.first:
        screen.show(first_tokens_view(screen, reply.first))
    if reply.remark:
        screen.note(reply.remark, style="yellow")
    return reply


def _try_answer(screen: Screen, conversation: Conversation, text: str) -> None:
    try:
        _answer(screen, conversation, text)
    except CnaError as error:
        screen.note(str(error), style="yellow")
    except KeyboardInterrupt:
        screen.note("interrupted: this turn is forgotten", style="yellow")


def _answer(screen: Screen, conversation: Conversation, text: str) -> None:
    screen = replace(screen, hides_text=conversation.hides_text)
    interrupt = Interrupt()
    with interrupt.watching():
        turn = _stream(screen, conversation, text, interrupt)
    result = _shown(turn.result, conversation.view)
    gauge = gauge_lines(screen, result, conversation.gauge, conversation.is_calibrated)
    for view in (*gauge, arms_view(screen, result)):
        screen.show(view)
    if len(result.arms) > 1:
        screen.out.print(summary(screen, result), soft_wrap=True)
    screen.note(closing(screen, turn))
    earlier = (one.result.in_thought for one in conversation.turns[:-1])
    if turn.result.in_thought and not any(earlier):
        screen.note(cut_thoughts(turn.result.in_thought), style="yellow")
    if screen.out.is_terminal:
        screen.out.print()


def _stream(
    screen: Screen,
    conversation: Conversation,
    text: str,
    stop: Callable[[], bool],
) -> Turn:
    """Draw the answers while they grow."""
    arms = conversation.arms
    shown = [n for n, arm in enumerate(arms) if _is_shown(arm.label, conversation.view)]
    with Growing(screen, arms, shown or [0]).drawn() as growing:
        for event in conversation.turn(text, stop):
            if isinstance(event, Turn):
                return event
            if isinstance(event, Gauged):
                result = PromptResult(text, (), event.value)
                growing.heading = gauge_lines(screen, result, conversation.gauge)
            else:
                growing.take(event)
    raise AssertionError("a turn ends with a Turn")


def _is_shown(label: str, view: str) -> bool:
    return view == "both" or (label == BASELINE.label) == (view == "baseline")


def _shown(result: PromptResult, view: str) -> PromptResult:
    arms = tuple(arm for arm in result.arms if _is_shown(arm.arm.label, view))
    return PromptResult(result.prompt, arms or result.arms[:1], result.gauge)


def closing(screen: Screen, turn: Turn) -> str:
    """The figures of a turn, and what to try if all arms refuse."""
    parts = [
        counted(turn.tokens, "token"),
        f"{turn.tokens / max(turn.seconds, 1e-6):.1f} tokens/s",
        gigabytes(turn.memory),
    ]
    if len(turn.result.arms) > 1:
        differ = "differ" if turn.histories_differ else "are the same"
        parts.append(f"histories {differ}")
    if turn.dropped:
        turns = "turn 1" if turn.dropped == 1 else f"turns 1-{turn.dropped}"
        parts.append(f"the context is full, {turns} dropped")
    if turn.is_interrupted:
        parts.append("interrupted")
    figures = screen.glyph(" · ", " | ").join(parts)
    if not turn.result.is_refused_by_all:
        return figures
    count = len(turn.result.arms)
    hint = _ALL_REFUSE.format("both arms" if count == 2 else f"all {count} arms")
    return f"{figures}\n{hint}"


def _export(conversation: Conversation, path: Path) -> None:
    """Draw the conversation as SVG or HTML."""
    turns = conversation.turns

    def draw(screen: Screen) -> list[RenderableType]:
        own = replace(screen, hides_text=conversation.hides_text)
        lines = [screen.safe(f"{name}: {said}") for name, said in facts(conversation)]
        return [
            Group(*lines, Text()),
            # the gauge's accuracy is known for first questions only
            *(
                prompt_view(own, turn.result, _heading(turn, at), _gauge(turn), n == 1)
                for n, turn in enumerate(turns, 1)
                if (at := f"{n}/{len(turns)}")
            ),
        ]

    save_picture(path, f"cna-mlx chat {conversation.session.name}", draw)


def _heading(turn: Turn, place: str) -> str:
    return ", ".join(filter(None, (place, turn_remarks(turn))))


def _gauge(turn: Turn) -> Circuit | None:
    steering = turn.result.arms[-1].arm.steering
    circuit = steering[0][0] if steering else None
    return circuit if isinstance(circuit, Circuit) else None
