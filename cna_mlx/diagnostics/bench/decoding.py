"""Time the decoding of a fixed number of tokens: plain mlx-lm and our arms."""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import mlx.core as mx

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.bench.timing import Budget, Clock, Comparison, in_turn
from cna_mlx.models.mlx_lm_internals import stream_generate
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.events import Token
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import steered

Ids = Sequence[int]
_SINGLY = "the same arms one after the other"


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


def endless(tokenizer: Any) -> Any:
    """Copy a tokenizer without its end of text, so that all runs have equal length."""
    found = copy(tokenizer)
    found.eos_token_ids = ()
    return found


def room(limit: int | None, prompt: Ids, tokens: int) -> int:
    """Return how many tokens to decode, so that prompt and answer fit the context."""
    return tokens if limit is None else max(2, min(tokens, limit - len(prompt)))


def arms_of(circuit: Circuit, count: int) -> list[Arm]:
    """Return the baseline, and arms with multipliers from 0 to just under 2."""
    steered = [Arm.of(circuit, 2 * n / max(1, count - 1)) for n in range(count - 1)]
    return [BASELINE, *steered]


def compare_arms(
    decoder: Decoder,
    circuit: Circuit,
    counts: Sequence[int],
    budget: Budget,
    histories: Sequence[Ids] | None = None,
) -> list[Comparison]:
    """Compare arms in one batch with the same arms one after the other.

    A round runs one arm alone, a batch of one, another arm alone, a batch of two, two
    more alone, a batch of four, and so on. So each batch runs close to the single runs
    that it is compared with, and all sizes share the single runs.

    Args:
        histories: a prompt for each arm, as in a chat; if None, one prompt for all.

    Returns:
        The decoding of each size (``arms_N`` or ``chat_arms_N``), then the prefill of
        each (``prefill_arms_N`` or ``prefill_chat_arms_N``).
    """
    arms = arms_of(circuit, counts[-1])
    kind, prompt = (
        ("chat_arms", "own histories") if histories else ("arms", "one prompt")
    )
    prompts = histories or [decoder.prompt] * len(arms)
    ladder: dict[tuple[str, int], slice] = {}
    for timed, count in pairwise((0, *counts)):
        ladder |= {("arm", n): slice(n, n + 1) for n in range(timed, count)}
        ladder["batch", count] = slice(0, count)

    def run(rows: slice) -> Decoded:
        return decoder.arms(arms[rows], histories and histories[rows])

    steps = [partial(run, rows) for rows in ladder.values()]
    rounds = in_turn(steps, budget, f"arms, {prompt}")
    runs = dict(zip(ladder, zip(*rounds, strict=True), strict=True))
    found = []
    for part, prefix in (("decode", ""), ("prefill", "prefill_")):
        seconds = {key: [getattr(one, part) for one in of] for key, of in runs.items()}
        for count in counts:
            singles = zip(*(seconds["arm", n] for n in range(count)), strict=True)
            times = tuple(map(sum, singles)), tuple(seconds["batch", count])
            read = sum(map(len, prompts[:count]))
            work = read if prefix else count * (decoder.tokens - 1)
            name = f"{prefix}{kind}_{count}"
            title = f"{part}, {count} arm{'s' * (count > 1)}, {prompt}"
            found.append(Comparison(name, title, _SINGLY, work, "tokens", *times))
    return found
