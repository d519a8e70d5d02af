"""`chat`: a conversation with several arms."""

from collections.abc import Sequence
from dataclasses import replace

from cna_mlx.chat import STEERED, Conversation
from cna_mlx.chat.conversation import MOST_ARMS
from cna_mlx.circuit import Circuit
from cna_mlx.commands.old.options import (
    ModelOptions,
    RenderingOptions,
    SelectionOptions,
)
from cna_mlx.commands.old.shared import Session, check_circuit_files, split_circuit
from cna_mlx.discovery.cache import cache_directory
from cna_mlx.errors import InputError
from cna_mlx.models.families import widths
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.interventions import check_multiplier
from cna_mlx.ui.chat import run_chat
from cna_mlx.ui.console import screen


def run(
    model: str,
    source: ModelOptions,
    rendering: RenderingOptions,
    options: SelectionOptions,
    *,
    ablate: bool,
    circuits: Sequence[str],
    multipliers: Sequence[float],
    temperature: float,
    seed: int,
    max_tokens: int,
    allow_transfer: bool,
    hide_text: bool,
    history: bool,
) -> None:
    """Load the model and its circuits, and talk."""
    multipliers = [check_multiplier(value) for value in multipliers]
    if not 0 <= temperature < float("inf"):
        raise InputError(f"--temp {temperature}: give 0 (greedy) or a number above it")
    _check_count(circuits, len(multipliers))
    check_circuit_files(circuits)
    session = Session.open(model, rendering, allow_transfer, source)
    # A circuit or a multiplier says as clearly as --ablate what is wanted.
    ablate = ablate or bool(circuits) or bool(multipliers)
    arms = session.steered_arms(options, circuits, multipliers) if ablate else []
    if len(arms) == 1:
        arms = [Arm(STEERED, arms[0].steering)]
    conversation = Conversation(
        session.model,
        session.tokenizer,
        arms,
        is_ablating=ablate,
        rendering=session.rendering,
        temperature=temperature,
        seed=seed,
        max_tokens=max_tokens,
        hides_text=hide_text,
        load_circuit=session.load_circuit,
    )

    def find(contrast: str | None = None) -> Circuit:
        wanted = options
        if contrast is not None:
            wanted = replace(options, contrast=contrast, positive=None, negative=None)
        now = replace(session, rendering=conversation.rendering)
        return now.default_circuit(wanted)

    def check(circuit: Circuit) -> None:
        model, transfer = session.model, session.allow_transfer
        circuit.check_model(widths(model), fingerprint(model), transfer)

    conversation.find_circuit, conversation.check_circuit = find, check
    kept = cache_directory() / "chat_history" if history else None
    run_chat(screen(), conversation, history=kept)


def _check_count(circuits: Sequence[str], multipliers: int) -> None:
    at_each = max(1, multipliers)
    owns = [split_circuit(text)[1] for text in circuits]
    count = sum(at_each if own is None else 1 for own in owns) if owns else at_each
    if count >= MOST_ARMS:
        raise InputError(
            f"{count} steered arms and the baseline: a chat has {MOST_ARMS} arms at "
            "most (diff takes any number)"
        )
