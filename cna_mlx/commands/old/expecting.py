"""What to expect of a fresh circuit: tried, said, and kept beside it."""

from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.cache import CachedCircuit, keep
from cna_mlx.discovery.trial import expect
from cna_mlx.discovery.trial_text import expectation_lines
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.ui.console import screen
from cna_mlx.ui.progress import progress_bar
from cna_mlx.util.interrupt import Interrupt


def with_expectation(
    model: Any,
    tokenizer: Any,
    rendering: Rendering,
    contrast: PromptSet,
    found: CachedCircuit,
) -> CachedCircuit:
    """Try a fresh circuit on held-out prompts, and keep what that showed with it.

    Ctrl-C ends the trial and no more: the circuit is in the store already.
    """
    if found.discovery is None:
        return found
    interrupt, expectation = Interrupt(), None
    try:
        with progress_bar("prompts") as progress, interrupt.watching():
            expectation = expect(
                model,
                tokenizer,
                contrast,
                found.discovery,
                rendering,
                stop=interrupt,
                progress=progress,
            )
    except KeyboardInterrupt:  # pressed twice: within a long prompt
        pass
    if expectation is None:
        if interrupt.was_pressed:
            screen().note("skipped: what to expect of this circuit", style="yellow")
        return found
    return keep(found, expectation.written_into(found.circuit))


def say_expectation(circuit: Circuit) -> None:
    """Say what to expect of a circuit, if it knows, where it is not the result."""
    for number, line in enumerate(expectation_lines(circuit)):
        if number:
            screen().note(line, style="yellow")
        else:
            screen().note(f"expect: {line}")
