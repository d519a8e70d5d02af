"""Time the decoding of a fixed number of tokens: plain mlx-lm and our arms."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import mlx.core as mx

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.bench.costs import Costs
from cna_mlx.diagnostics.bench.timing import Budget, Clock, Comparison, in_turn
from cna_mlx.models.mlx_lm_internals import stream_generate
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.events import Token
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import steered

Ids = Sequence[int]
_SINGLY = "the same arms one after the other"
_PLAIN = "mlx-lm's stream_generate"


@dataclass(frozen=True)
class Decoded:
    """One timed run.

    Attributes:
        prefill: seconds until the first token.
        decode: seconds from the first token to the last.
        ids: the tokens of each row.
    """

    prefill: float
    decode: float
    ids: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Decoder:
    """Runs a model on a prompt.

    Attributes:
        tokenizer: without an end of text; see :func:`endless`.
        tokens: new tokens of each run, at least 2.
    """

    model: Any
    tokenizer: Any
    prompt: Ids
    tokens: int
    clock: Clock = time.perf_counter

    def plain(self, circuit: Circuit | None = None) -> Decoded:
        """Run mlx-lm's loop, inside ``steered`` if a circuit is given."""
        context = nullcontext() if circuit is None else steered(self.model, circuit)
        with context:
            responses = stream_generate(
                self.model, self.tokenizer, list(self.prompt), max_tokens=self.tokens
            )
            return self._timed(((0, one.token) for one in responses), 1)

    def arms(
        self, arms: Sequence[Arm], prompts: Sequence[Ids] | None = None
    ) -> Decoded:
        """Run our loop with one row per arm, each with its prompt if given."""
        given = self.prompt if prompts is None else [list(one) for one in prompts]
        events = generate_arms(
            self.model, self.tokenizer, [given], arms, max_tokens=self.tokens
        )
        tokens = (event for event in events if isinstance(event, Token))
        return self._timed(((event.arm, event.id) for event in tokens), len(arms))

    def _timed(self, tokens: Iterator[tuple[int, int]], rows: int) -> Decoded:
        mx.synchronize()  # mlx-lm runs one step ahead: wait for the last run's
        ids: list[list[int]] = [[] for _ in range(rows)]
        times = [self.clock()]
        for row, token in tokens:
            ids[row].append(token)
            if row == 0:
                times.append(self.clock())
        first, last = times[1], times[-1]
        return Decoded(first - times[0], last - first, tuple(map(tuple, ids)))


Way = Callable[[Decoder], Decoded]


def endless(tokenizer: Any) -> Any:
    """Copy a tokenizer without its end of text, so that all runs have equal length."""
    found = copy(tokenizer)
    found.eos_token_ids = ()
    return found


def room(limit: int | None, prompt: Ids, tokens: int) -> int:
    """Return how many tokens to decode, so that prompt and answer fit the context."""
    return tokens if limit is None else max(2, min(tokens, limit - len(prompt)))


def fitting(
    costs: Costs, rows: Sequence[int], chat_rows: Sequence[int], seconds: float
) -> tuple[Sequence[int], Sequence[int]]:
    """Leave out the largest batches that short answers would not fit into some time.

    One batch remains.
    """
    while len(rows) + len(chat_rows) > 1:
        largest = max(rows, default=0), max(chat_rows, default=0)
        # what rows cost was measured first, as far as there was time
        is_known = max(largest) <= max(costs.steps)
        if is_known and costs.seconds([1, *rows, *chat_rows]) <= seconds:
            break
        if largest[0] > largest[1]:
            rows = rows[:-1]
        else:
            chat_rows = chat_rows[:-1]
    return rows, chat_rows


def arms_of(circuit: Circuit, count: int) -> list[Arm]:
    """Return the baseline, and arms with multipliers from 0 to just under 2."""
    steered = [Arm.of(circuit, 2 * n / max(1, count - 1)) for n in range(count - 1)]
    return [BASELINE, *steered]


def compare(
    decoder: Decoder, ways: Sequence[tuple[str, str, Way]], budget: Budget
) -> list[Comparison]:
    """Compare ways of decoding with mlx-lm's loop, which runs once in each round.

    Args:
        ways: the name, the title and the way of each.
    """
    runs = [way for _, _, way in ways]
    # in the middle of the round, so close to each
    middle = (len(runs) + 1) // 2
    runs.insert(middle, Decoder.plain)
    timed = [[one.decode for one in of] for of in _runs(decoder, runs, runs, budget)]
    plain = tuple(timed.pop(middle))
    work = decoder.tokens - 1
    return [
        Comparison(name, title, _PLAIN, work, "tokens", plain, tuple(ours))
        for (name, title, _), ours in zip(ways, timed, strict=True)
    ]


def compare_arms(
    decoder: Decoder,
    circuit: Circuit,
    rows: Sequence[int],
    chat_rows: Sequence[int],
    histories: Sequence[Ids],
    costs: Costs,
    budget: Budget,
) -> list[Comparison]:
    """Compare arms in one batch with the same arms one after the other.

    A multiplier is data, so all single arms take equally long: one stands for all in
    each round.

    Args:
        rows: sizes of batches of one prompt.
        chat_rows: sizes of batches with a prompt for each arm, as in a chat.
        histories: those prompts.
        costs: what rows cost in the model's own steps, for the expected ratios.

    Returns:
        The decoding of each size (``arms_N``, ``chat_arms_N``), then the prefill of
        each with one prompt (``prefill_arms_N``).
    """
    arms = arms_of(circuit, max(2, *rows, *chat_rows))

    def batch(count: int, prompts: Sequence[Ids] | None, one: Decoder) -> Decoded:
        return one.arms(arms[:count], prompts)

    sizes = [("arms", count) for count in rows]
    sizes += [("chat_arms", count) for count in chat_rows]
    ways: list[Way] = [lambda one: one.arms(arms[1:2])]
    ways += [partial(batch, count, None) for count in rows]
    ways += [partial(batch, count, histories[:count]) for count in chat_rows]
    alone, *batches = _runs(decoder, ways, ways[:2], budget)
    found = []
    for part, of_part in (("decode", sizes), ("prefill", sizes[: len(rows)])):
        prefix = "prefill_" if part == "prefill" else ""
        length = f" of {len(decoder.prompt)} tokens" if prefix else ""
        single = [getattr(run, part) for run in alone]
        work = len(decoder.prompt) if prefix else decoder.tokens - 1
        for (kind, count), runs in zip(of_part, batches, strict=False):
            prompt = f"one prompt{length}" if kind == "arms" else "own histories"
            found.append(
                Comparison(
                    f"{prefix}{kind}_{count}",
                    f"{part}, {count} arm{'s' * (count > 1)}, {prompt}",
                    _SINGLY,
                    count * work,
                    "tokens",
                    tuple(count * seconds for seconds in single),
                    tuple(getattr(run, part) for run in runs),
                    None if prefix else costs.gain(count),
                    "" if prefix else "the rows' cost",
                )
            )
    return found


def _runs(
    decoder: Decoder, ways: Sequence[Way], new: Sequence[Way], budget: Budget
) -> list[tuple[Decoded, ...]]:
    """Run each way in turn, after a short run of the new ones, which compile."""
    short = replace(decoder, prompt=decoder.prompt[:2], tokens=2)
    for way in new:
        way(short)
    steps = [partial(way, decoder) for way in ways]
    return in_turn(steps, budget, f"decoding {decoder.tokens} tokens")
