"""The chat in a terminal: its arms stream side by side; a pipe gets plain text."""

import sys
from collections.abc import Callable
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from rich.console import RenderableType

from cna_mlx.chat import Conversation, Reply, Turn, carry_out
from cna_mlx.chat.composer import unquoted
from cna_mlx.circuit import Circuit
from cna_mlx.errors import CnaError
from cna_mlx.models.loading import source_of
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.prompts.chat_template import injected_system
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.diff import PromptResult
from cna_mlx.steering.events import Gauged
from cna_mlx.ui.console import Screen
from cna_mlx.ui.diff import arms_view, gauge_lines, prompt_view, summary
from cna_mlx.ui.lines import Read, plain_lines
from cna_mlx.ui.live import Growing
from cna_mlx.ui.picture import save_picture
from cna_mlx.ui.progress import progress_bar
from cna_mlx.ui.tables import grid_view
from cna_mlx.util.formatting import counted
from cna_mlx.util.interrupt import Interrupt

_ALL_REFUSE = (
    "{} refuse, as they do to many prompts on most models: /sweep tries other "
    "strengths, /why needs an answer that differs, a larger --fraction or other "
    "--layers make another circuit"
)


def run_chat(
    screen: Screen,
    conversation: Conversation,
    source: IO[str] | None = None,
    history: Path | None = None,
) -> None:
    """Read, answer, repeat, until the input ends or somebody says goodbye.

    Args:
        screen: where to print.
        conversation: the arms.
        source: where lines come from; standard input if None.
        history: a file that keeps what was typed between sessions.
    """
    read = _reader(screen, source or sys.stdin, history)
    conversation.export = _export
    _greet(screen, conversation)
    while True:
        try:
            text = read()
        except KeyboardInterrupt:
            screen.note("(Ctrl-D or /bye leaves)")
            continue
        if text is None:
            return
        if text.startswith("/"):
            if _command(screen, conversation, text):
                return
        elif message := unquoted(text).strip():
            _answer(screen, conversation, message)


def _reader(screen: Screen, source: IO[str], history: Path | None) -> Read:
    if isinstance(source, TextIOWrapper):  # messages are UTF-8 in every locale
        source.reconfigure(encoding="utf-8", errors="surrogateescape")
    if source is sys.stdin and source.isatty() and screen.is_live:
        # imported here: a pipe does not wait for prompt_toolkit
        from cna_mlx.ui.line_editor import line_editor

        return line_editor(screen, history)
    return plain_lines(screen, source)


def _greet(screen: Screen, conversation: Conversation) -> None:
    source = source_of(conversation.model)
    name = source.name if source else "model"
    arms = "baseline"
    if conversation.is_ablating and conversation.circuit:
        if len(conversation.steered) > 1:
            arms = ", ".join(arm.title for arm in conversation.arms)
        else:
            count = counted(len(conversation.circuit.neurons), "neuron")
            arms = f"baseline and {count} scaled by {conversation.multiplier:g}"
    screen.note(f"{name}: {arms}. /help lists the commands, Ctrl-D leaves.")
    if system := injected_system(conversation.tokenizer, conversation.rendering):
        screen.note(f"the template's own system prompt: {system}")


def _command(screen: Screen, conversation: Conversation, line: str) -> bool:
    try:
        # drawn when a command first tells of progress: a discovery has its own
        with progress_bar("neurons", at_once=False) as conversation.progress:
            reply = carry_out(conversation, line)
    except CnaError as error:
        screen.note(str(error), style="yellow")
        return False
    except KeyboardInterrupt:
        screen.note("interrupted", style="yellow")
        return False
    _show(screen, reply)
    return reply.is_over


def _show(screen: Screen, reply: Reply) -> None:
    if reply.text and reply.is_data:
        screen.out.print(screen.safe(reply.text), soft_wrap=not screen.out.is_terminal)
    elif reply.text:
        screen.note(reply.text, style="cyan")
    if reply.grid:
        view = grid_view(screen, reply.grid)
        screen.out.print(view, soft_wrap=not screen.out.is_terminal)
    if reply.remark:
        screen.note(reply.remark, style="yellow")


def _answer(screen: Screen, conversation: Conversation, text: str) -> None:
    screen = replace(screen, hides_text=conversation.hides_text)
    interrupt = Interrupt()
    try:
        with interrupt.watching():
            turn = _stream(screen, conversation, text, interrupt)
    except CnaError as error:
        screen.note(str(error), style="yellow")
        return
    except KeyboardInterrupt:
        screen.note("interrupted before the answer was whole", style="yellow")
        return
    result = _shown(turn.result, conversation.view)
    gauge = gauge_lines(screen, result, conversation.gauge, conversation.is_calibrated)
    for view in (*gauge, arms_view(screen, result)):
        screen.out.print(view, soft_wrap=not screen.out.is_terminal)
    if len(result.arms) > 1:
        screen.out.print(summary(screen, result), soft_wrap=True)
    screen.note(closing(screen, turn))
    if screen.out.is_terminal:
        screen.out.print()


def _stream(
    screen: Screen,
    conversation: Conversation,
    text: str,
    stop: Callable[[], bool],
) -> Turn:
    """Show the answers as they grow; the whole turn is printed when it is done."""
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
    raise AssertionError("a conversation's turn always ends with a Turn")


def _is_shown(label: str, view: str) -> bool:
    return view == "both" or (label == BASELINE.label) == (view == "baseline")


def _shown(result: PromptResult, view: str) -> PromptResult:
    arms = tuple(arm for arm in result.arms if _is_shown(arm.arm.label, view))
    return PromptResult(result.prompt, arms or result.arms[:1], result.gauge)


def closing(screen: Screen, turn: Turn) -> str:
    """What stands under a turn: its figures, and what to try where all arms refuse."""
    figures = _footer(screen, turn)
    if not turn.result.is_refused_by_all:
        return figures
    count = len(turn.result.arms)
    hint = _ALL_REFUSE.format("both arms" if count == 2 else f"all {count} arms")
    return f"{figures}\n{hint}"


def _footer(screen: Screen, turn: Turn) -> str:
    parts = [
        counted(turn.tokens, "token"),
        f"{turn.tokens_per_second:.1f} tokens/s",
        gigabytes(turn.memory),
    ]
    if len(turn.result.arms) > 1:
        differ = "differ" if turn.histories_differ else "are the same"
        parts.append(f"histories {differ}")
    if turn.dropped:
        turns = "the first turn" if turn.dropped == 1 else f"turns 1-{turn.dropped}"
        parts.append(f"the context is full: {turns} no longer fit")
    if any(arm.finish == "interrupted" for arm in turn.result.arms):
        parts.append("interrupted")
    return screen.glyph(" · ", " | ").join(parts)


# ------------------------------------------------------------------------ pictures


def _export(conversation: Conversation, path: Path) -> None:
    source = source_of(conversation.model)
    title = f"cna-mlx chat {source.name if source else ''}".strip()

    def draw(screen: Screen) -> list[RenderableType]:
        own = replace(screen, hides_text=conversation.hides_text)
        return [_page(own, conversation, number) for number in range(count)]

    count = len(conversation.turns)
    save_picture(path, title, draw)


def _page(screen: Screen, conversation: Conversation, number: int) -> RenderableType:
    turn = conversation.turns[number]
    steered = turn.result.arms[-1].arm.steering
    circuit = steered[0][0] if steered else None
    return prompt_view(
        screen,
        turn.result,
        f"{number + 1}/{len(conversation.turns)}",
        circuit if isinstance(circuit, Circuit) else None,
        # a later turn's gauge reads a conversation, which nothing was measured on
        is_calibrated=number == 0,
    )
