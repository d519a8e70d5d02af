"""Answer prompts in several arms: every arm of a prompt is a row of one batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.models.context import check_lengths
from cna_mlx.models.families import experts_of, widths
from cna_mlx.models.memory.machine import wired
from cna_mlx.steering.arm_cache import ArmCache
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.decoding import Batch, Parks
from cna_mlx.steering.events import Answer, Gauged, Token
from cna_mlx.steering.gauge_scale import Scale
from cna_mlx.steering.interventions import Edits
from cna_mlx.steering.prefill import NO_HEADER, Header
from cna_mlx.steering.sampling import Greedy, Sampling, chooser
from cna_mlx.util.progress import Progress, never, silent

DEFAULT_MAX_TOKENS = 150
# Prompts of a batch; few, since each has a KV cache.
_TOGETHER = 16


def generate_arms(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Any],
    arms: Sequence[Arm],
    *,
    max_tokens: int | Sequence[int] = DEFAULT_MAX_TOKENS,
    sampling: Sampling | None = None,
    caches: dict[str, ArmCache] | None = None,
    gauge: Circuit | None = None,
    once: bool = False,
    leaves: bool = False,
    parks: Parks | None = None,
    prefilled: Callable[[list[Any]], None] | None = None,
    header: Header = NO_HEADER,
    stop: Callable[[], bool] = never,
) -> Iterator[Gauged | Token | Answer]:
    """Answer every prompt in every arm; all arms of a prompt decode in one batch.

    A step reads the weights once for all rows; docs/performance.md says what more rows
    cost. A row equals what its arm gives in a batch of the same shape.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        prompts: token ids of each prompt; where the arms' histories differ, a list
            of token ids for each arm.
        arms: one for each row, in this order.
        max_tokens: the largest number of new tokens, or that of each arm.
        sampling: greedy if None.
        caches: KV caches by the arm's label, kept between calls: the part of a prompt
            that is in a cache is not computed again. A cache made under another
            steering is dropped.
        gauge: a circuit to gauge each prompt along, in the pass over the prompt's
            last token. The first arm must be unsteered.
        once: steer only at the prompt's last token; what follows attends to it. Not
            with ``caches``.
        leaves: rows that have ended leave the batch; ``caches`` then keep the others.
        parks: called after each token with the numbers of rows that still answer and
            of tokens; True ends a prompt's answers as ``interrupted``.
        prefilled: called with a copy of the KV caches of each prompt without its last
            token.
        header: token ids that the prompts of several calls begin with.
        stop: called before each token; True ends the answers as ``interrupted``.

    Yields:
        For each prompt a :class:`Gauged` if there is a gauge, each :class:`Token` as
        it comes, and an :class:`Answer` when a row ends.

    Raises:
        InputError: no arms, two arms with the same label, a prompt that does not fit,
            a gauge with a steered first arm, or ``once`` with ``caches``.
        CircuitError: a circuit does not fit the model, or cannot be a gauge.
    """
    if not arms or len({arm.label for arm in arms}) < len(arms):
        raise InputError("give one or more arms, each with its own label")
    limits = [max_tokens] * len(arms) if isinstance(max_tokens, int) else max_tokens
    if len(limits) != len(arms) or min(limits) < 1:
        raise InputError(f"max_tokens {max_tokens}: give 1 or more")
    if once and caches is not None:
        raise InputError("caches hold steered tokens: leave out once or caches")
    scale = None if gauge is None else _scale(model, gauge, arms[0])
    # all prompts are checked before the first is answered
    histories = [
        _by_arm(model, prompt, len(arms), number)
        for number, prompt in enumerate(prompts, 1)
    ]
    steering = [arm.steering for arm in arms]
    # A single row needs no scale for each row and keeps the cheaper broadcast.
    edits = Edits(model, steering if len(arms) > 1 else steering[0])
    with wired():
        for number, by_arm in enumerate(histories):
            if stop():
                return
            choose = chooser(sampling or Greedy(), number)
            batch = Batch(
                model,
                tokenizer,
                number,
                arms,
                by_arm,
                edits,
                choose,
                scale,
                stop,
                once,
                leaves,
                parks,
                prefilled,
                header,
            )
            yield from batch.run(limits, caches)


def answer_unsteered(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    *,
    stop: Callable[[], bool] = never,
    progress: Progress = silent,
) -> list[Answer]:
    """Answer several prompts at a time, greedily; fewer than given if stopped.

    Args:
        prompts: token ids of each prompt.
        progress: called after each batch.
    """
    found: list[Answer] = []
    for start in range(0, len(prompts), _TOGETHER):
        part = prompts[start : start + _TOGETHER]
        # each row of the batch is another prompt
        arms = [Arm(str(row)) for row in range(len(part))]
        events = generate_arms(
            model,
            tokenizer,
            [list(part)],
            arms,
            max_tokens=max_tokens,
            leaves=True,
            stop=stop,
        )
        answers = [event for event in events if isinstance(event, Answer)]
        if len(answers) < len(part) or any(a.finish == "interrupted" for a in answers):
            break
        found += sorted(answers, key=lambda answer: answer.arm)
        progress("Answering", len(found), len(prompts))
    return found


def _scale(model: Any, gauge: Circuit, first: Arm) -> Scale:
    if any(multiplier != 1 for _, multiplier in first.steering):
        raise InputError("a gauge needs an unsteered first arm")
    gauge.check_shape(widths(model), experts_of(model))
    return Scale(gauge)


def _by_arm(model: Any, prompt: Any, arms: int, number: int) -> list[list[int]]:
    """The token ids of each arm."""
    is_nested = len(prompt) > 0 and not isinstance(prompt[0], int)
    by_arm = [list(ids) for ids in (prompt if is_nested else [prompt] * arms)]
    if len(by_arm) != arms:
        raise InputError(f"prompt {number} has {len(by_arm)} histories for {arms} arms")
    for ids in by_arm:
        check_lengths(model, [ids], number)
    return by_arm
