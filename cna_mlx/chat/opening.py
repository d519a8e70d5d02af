"""Begin a conversation with a model and its circuits."""

from collections.abc import Sequence
from typing import Any

from cna_mlx.chat.conversation import MOST_ARMS, Conversation
from cna_mlx.discovery.chosen import split_circuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.sampling import Sampled
from cna_mlx.strength import Strength, arm_label

_FILTERS = ("top_p", "top_k", "min_p")


def open_conversation(
    session: Session,
    options: DiscoveryOptions,
    *,
    is_ablating: bool = False,
    circuits: Sequence[str] = (),
    multipliers: Sequence[Strength] = (),
    **settings: Any,
) -> Conversation:
    """Load a model and its circuits.

    Args:
        is_ablating: answer with the steered arms too; implied by circuits and
            multipliers.
        settings: of the :class:`Conversation`: ``temperature``, ``seed``,
            ``max_tokens``, ``top_p``, ``top_k``, ``min_p``, ``hides_text``.
    """
    if not 0 <= settings.get("temperature", 0.0) < float("inf"):
        raise InputError(
            f"--temp {settings['temperature']}: give 0 (greedy) or a number above it"
        )
    filters = {name: settings[name] for name in _FILTERS if name in settings}
    if Sampled(1.0, **filters) != Sampled(1.0) and not settings.get("temperature"):
        session.reporter.warn(
            "--top-p, --top-k and --min-p have no effect without --temp above 0"
        )
    _check_count(circuits, len(multipliers))
    is_ablating = is_ablating or bool(circuits) or bool(multipliers)
    arms = session.steered_arms(options, circuits, multipliers) if is_ablating else []
    if len(arms) == 1:
        arms = [Arm(arm_label(arms[0].strength), arms[0].steering)]
    return Conversation(session, arms, options, is_ablating=is_ablating, **settings)


def _check_count(circuits: Sequence[str], multipliers: int) -> None:
    at_each = max(1, multipliers)
    fixed = [split_circuit(text)[1] for text in circuits]
    count = sum(at_each if one is None else 1 for one in fixed) if fixed else at_each
    if count >= MOST_ARMS:
        raise InputError(
            f"{count} steered arms and the baseline: a chat takes up to {MOST_ARMS} "
            "arms (diff takes any number)"
        )
