"""Decoding: mlx-lm's own loop beside a steered one, a fixed number of tokens each."""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
from mlx_lm import stream_generate

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.bench.timing import Budget, Clock, Comparison, in_turn
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Token
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import steered
from cna_mlx.util.progress import Progress, silent


@dataclass(frozen=True)
class Decoded:
    """One timed run.

    Attributes:
        prefill: seconds until the first token was known.
        decode: seconds from the first token to the last.
        ids: the tokens of each row.
    """

    prefill: float
    decode: float
    ids: tuple[tuple[int, ...], ...]

    @property
    def steps(self) -> int:
        """How many tokens of a row were decoded in the time that counts."""
        return len(self.ids[0]) - 1


@dataclass(frozen=True)
class Decoder:
    """A model with what each run does: which prompt, how many tokens.

    Attributes:
        model: as :func:`cna_mlx.load` returns it.
        tokenizer: one that ends no answer; see :func:`endless`.
        prompt: token ids.
        tokens: new tokens of each run, 2 or more.
        clock: seconds that only grow.
    """

    model: Any
    tokenizer: Any
    prompt: Sequence[int]
    tokens: int
    clock: Clock = time.perf_counter

    def plain(self, circuit: Circuit | None = None) -> Decoded:
        """mlx-lm's own loop; inside ``steered`` if a circuit is given."""
        context = nullcontext() if circuit is None else steered(self.model, circuit)
        with context:
            return self._timed(self._streamed(), 1)

    def arms(
        self, arms: Sequence[Arm], prompts: Sequence[Sequence[int]] | None = None
    ) -> Decoded:
        """Our loop: a row for each arm.

        Args:
            arms: the ways of steering.
            prompts: a history for each arm; the prompt for all of them if None.
        """
        given = self.prompt if prompts is None else [list(one) for one in prompts]
        events = generate_arms(
            self.model, self.tokenizer, [given], arms, max_tokens=self.tokens
        )
        tokens = (event for event in events if isinstance(event, Token))
        return self._timed(((event.arm, event.id) for event in tokens), len(arms))

    def _streamed(self) -> Iterator[tuple[int, int]]:
        # mlx-lm ends with a response of its own only where a token came to nothing
        responses = stream_generate(
            self.model, self.tokenizer, list(self.prompt), max_tokens=self.tokens
        )
        for response in responses:
            yield 0, response.token

    def _timed(self, tokens: Iterator[tuple[int, int]], rows: int) -> Decoded:
        # mlx-lm runs one step ahead: the last run's must be over before this begins
        mx.synchronize()
        ids: list[list[int]] = [[] for _ in range(rows)]
        times = [self.clock()]
        for row, token in tokens:
            ids[row].append(token)
            if row == 0:
                times.append(self.clock())
        first, last = times[1], times[-1]
        return Decoded(first - times[0], last - first, tuple(map(tuple, ids)))


def endless(tokenizer: Any) -> Any:
    """The same tokenizer, but no token ends an answer: every run has equal length."""
    found = copy(tokenizer)
    found.eos_token_ids = ()
    return found


def room(limit: int | None, prompt: Sequence[int], tokens: int) -> int:
    """How many tokens to decode, so that prompt and answer fit into the context."""
    return tokens if limit is None else max(2, min(tokens, limit - len(prompt)))


def compare_steered(
    decoder: Decoder,
    circuit: Circuit,
    budget: Budget,
    name: str,
    what: str,
    progress: Progress = silent,
) -> Comparison:
    """Our loop with one ablated arm, against mlx-lm's ``stream_generate``.

    Args:
        decoder: what is decoded.
        circuit: what the arm ablates.
        budget: how many pairs.
        name: of the result.
        what: which circuit it is, for people.
        progress: told after each pair.
    """
    arm = Arm.of(circuit, 0.0)
    ours = partial(_seconds, partial(decoder.arms, [arm]))
    return _compare(decoder, ours, budget, name, f"decoding, {what}", progress)


def compare_context(
    decoder: Decoder, circuit: Circuit, budget: Budget, progress: Progress = silent
) -> Comparison:
    """mlx-lm's ``stream_generate`` inside ``steered``, against itself outside.

    Args:
        decoder: what is decoded.
        circuit: what is ablated inside.
        budget: how many pairs.
        progress: told after each pair.
    """
    ours = partial(_seconds, partial(decoder.plain, circuit))
    title = "mlx-lm's loop inside steered()"
    return _compare(decoder, ours, budget, "steered_context", title, progress)


def _compare(
    decoder: Decoder,
    ours: partial[float],
    budget: Budget,
    name: str,
    title: str,
    progress: Progress,
) -> Comparison:
    plain = partial(_seconds, decoder.plain)
    found = in_turn(plain, ours, budget, task=title, progress=progress)
    work = decoder.tokens - 1
    return Comparison(name, *found, work, "tokens", title, "mlx-lm's stream_generate")


def _seconds(run: Any) -> float:
    decoded: Decoded = run()
    return decoded.decode
