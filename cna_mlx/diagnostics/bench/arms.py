"""Several arms as rows of one batch, against the same arms one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.bench.decoding import Decoded, Decoder
from cna_mlx.diagnostics.bench.timing import Budget, Comparison
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.util.progress import Progress, silent

_AGAINST = "the same arms one after the other"


def arms_of(circuit: Circuit, count: int) -> list[Arm]:
    """The baseline, and arms between ablation and twice the strength."""
    steered = [Arm.of(circuit, 2 * n / max(1, count - 1)) for n in range(count - 1)]
    return [BASELINE, *steered]


@dataclass
class _Rows:
    """What was timed of one number of rows, round by round, in seconds."""

    alone: list[tuple[float, float]] = field(default_factory=list)
    together: list[tuple[float, float]] = field(default_factory=list)

    def take(self, alone: Sequence[Decoded], together: Decoded) -> None:
        prefill = sum(one.prefill for one in alone)
        self.alone.append((prefill, sum(one.decode for one in alone)))
        self.together.append((together.prefill, together.decode))


def compare_arms(
    decoder: Decoder,
    circuit: Circuit,
    counts: Sequence[int],
    budget: Budget,
    *,
    histories: Sequence[Sequence[int]] | None = None,
    progress: Progress = silent,
) -> list[Comparison]:
    """Time batches of several sizes, and as many single arms, in the same rounds.

    A round goes up a ladder: one arm alone, a batch of one, another arm alone, a batch
    of two, two more alone, a batch of four and so on; the next round comes down again.
    So a batch is timed beside the single runs that it is held against, and each of
    these once for all sizes.

    Args:
        decoder: what is decoded.
        circuit: what the arms scale.
        counts: numbers of rows, ascending; one row shows the noise.
        budget: how many rounds.
        histories: a prompt of its own for each arm, as in a chat; one for all if None.
        progress: told after each round.

    Returns:
        For each count the decoding (``arms_N``), then for each count the prefill
        (``prefill_arms_N``); of histories, ``chat_arms_N`` and ``prefill_chat_arms_N``.
    """
    arms = arms_of(circuit, counts[-1])
    task = "several arms" if histories is None else "arms of a chat"
    rows = {count: _Rows() for count in counts}
    progress(task, 0, budget.pairs)
    _together(decoder, arms, histories, counts[-1])
    _alone(decoder, arms, histories, 0)
    started, done = budget.clock(), 0
    while budget.goes_on(done, started):
        _round(decoder, arms, histories, rows, is_descending=bool(done % 2))
        done += 1
        progress(task, done, budget.pairs)
    kind = "chat_arms" if histories else "arms"
    words = "with histories of their own" if histories else "of one prompt"
    decoded, read = [], []
    for count, found in rows.items():
        title = f"{count} arm{'s' * (count > 1)} {words}"
        work = count * (decoder.tokens - 1)
        own = histories or [decoder.prompt] * count
        ids = sum(len(prompt) for prompt in own[:count])
        decoded.append(_compared(f"{kind}_{count}", found, 1, work, title))
        read.append(
            _compared(f"prefill_{kind}_{count}", found, 0, ids, f"prefill, {title}")
        )
    return decoded + read


def _round(
    decoder: Decoder,
    arms: Sequence[Arm],
    histories: Sequence[Sequence[int]] | None,
    rows: dict[int, _Rows],
    *,
    is_descending: bool,
) -> None:
    alone: dict[int, Decoded] = {}
    together: dict[int, Decoded] = {}
    steps: list[tuple[bool, int]] = []
    timed = 0
    for count in rows:
        steps += [(False, arm) for arm in range(timed, count)]
        steps.append((True, count))
        timed = count
    for is_batch, number in reversed(steps) if is_descending else steps:
        if is_batch:
            together[number] = _together(decoder, arms, histories, number)
        else:
            alone[number] = _alone(decoder, arms, histories, number)
    for count, found in rows.items():
        found.take([alone[arm] for arm in range(count)], together[count])


def _together(
    decoder: Decoder,
    arms: Sequence[Arm],
    histories: Sequence[Sequence[int]] | None,
    count: int,
) -> Decoded:
    return decoder.arms(arms[:count], histories and histories[:count])


def _alone(
    decoder: Decoder,
    arms: Sequence[Arm],
    histories: Sequence[Sequence[int]] | None,
    arm: int,
) -> Decoded:
    return decoder.arms([arms[arm]], histories and [histories[arm]])


def _compared(name: str, found: _Rows, part: int, work: int, title: str) -> Comparison:
    alone = tuple(times[part] for times in found.alone)
    together = tuple(times[part] for times in found.together)
    return Comparison(name, alone, together, work, "tokens", title, _AGAINST)
