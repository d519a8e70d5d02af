"""Measure a model's decoding, arms, discovery and memory."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.bench import decoding, walks
from cna_mlx.diagnostics.bench.decoding import Decoded, Decoder
from cna_mlx.diagnostics.bench.physics import Physics
from cna_mlx.diagnostics.bench.timing import Budget, Clock, Comparison
from cna_mlx.diagnostics.invariants import random_circuit
from cna_mlx.diagnostics.model import parameter_bytes
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.options import defaults_for
from cna_mlx.discovery.selection import DEFAULT_FRACTION
from cna_mlx.discovery.session import Session
from cna_mlx.models.context import context_length
from cna_mlx.models.families import family_of
from cna_mlx.models.family import text_of
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.models.loading import on_disk
from cna_mlx.models.memory.forecast import Shape, discovery_bytes
from cna_mlx.models.memory.plan import streamed_bytes
from cna_mlx.models.mlx_lm_internals import KVCache
from cna_mlx.models.offload.streaming import read_whole
from cna_mlx.prompts import PromptSet, load_bank, load_contrast
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arms import Arm
from cna_mlx.util.progress import Progress, silent

Action = Callable[[], object]
PARTS = ("decoding", "arms", "discovery", "memory")


@dataclass(frozen=True)
class Settings:
    """How much to measure.

    Attributes:
        pairs, rounds, walks: repetitions of decoding, of the arms, of the discovery.
        tokens: the length of each answer.
        prompts: the number of prompts of the timed discovery.
        rows: batch sizes of the arms, ascending.
        chat_rows: the same, with a history for each arm.
        seconds: the time after which a comparison starts no repetition.
        is_whole: run a discovery with the bank, to compare its memory with the plan.
        parts: some of ``PARTS``.
    """

    pairs: int = 7
    rounds: int = 3
    walks: int = 3
    tokens: int = 32
    prompts: int = 64
    rows: tuple[int, ...] = (1, 2, 4, 8, 16)
    chat_rows: tuple[int, ...] = (2, 4)
    seconds: float = 60.0
    is_whole: bool = True
    parts: tuple[str, ...] = PARTS


SHORT = Settings(3, 2, 2, 12, 12, (1, 2, 4), (2,), 5.0, is_whole=False)


@dataclass(frozen=True)
class Memory:
    """Measured and forecast memory beyond the weights, in bytes."""

    name: str
    title: str
    measured: int
    forecast: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the bytes and seconds as a dict."""
        return {
            "measured_bytes": self.measured,
            "forecast_bytes": self.forecast,
            "seconds": round(self.seconds, 2),
        }


Result = Physics | Comparison | Memory


@dataclass
class Bench:
    """A benchmark of a loaded model.

    Attributes:
        contrast: the prompts; if None, the model's default contrast.
        progress: called during each comparison.
        clock: a monotonic clock in seconds.
    """

    session: Session
    settings: Settings = field(default_factory=Settings)
    contrast: PromptSet | None = None
    progress: Progress = silent
    clock: Clock = time.perf_counter

    def __post_init__(self) -> None:
        self.model, self.tokenizer = self.session.model, self.session.tokenizer
        self.defaults = defaults_for(self.session.name)
        self.prompts = self.contrast or load_contrast(self.defaults.contrast)
        self.ids = self._rendered(walks.both_sides(self.prompts, self.settings.prompts))
        histories = self.ids[: max(self.settings.chat_rows, default=1)]
        longest = max(histories, key=len)
        limit = context_length(self.model)
        tokens = decoding.room(limit, longest, self.settings.tokens)
        work = decoding.endless(self.tokenizer), self.ids[0], tokens
        self.decoder = Decoder(self.model, *work, self.clock)
        self.random = random_circuit(self.model, DEFAULT_FRACTION)
        self.streamed = on_disk(self.model)

    def run(self) -> Iterator[Result]:
        """Yield each result once it is measured.

        Raises:
            InputError: a prompt does not fit into the model's context.
            UnsupportedModelError: the model's MLP blocks are of another kind.
        """
        self.progress("memory bandwidth", 0, 1)
        yield Physics.of(self.model, self.ids[0], self.decoder.tokens)
        for part in PARTS:
            if part in self.settings.parts:
                yield from getattr(self, f"_{part}")()

    def compare_walks(
        self, name: str, title: str, against: str, plain: Action, ours: Action
    ) -> Comparison:
        """Compare two ways of running the prompts through the model."""
        budget = self._budget(self.settings.walks)
        found = Comparison(name, title, against, len(self.ids), "prompts")
        return found.timed(budget.timed(plain), budget.timed(ours), budget)

    def _budget(self, repetitions: int) -> Budget:
        return Budget(repetitions, self.settings.seconds, self.clock, self.progress)

    def _rendered(self, texts: Sequence[str]) -> list[list[int]]:
        rendering = self.session.rendering
        return [render_prompt(self.tokenizer, text, rendering) for text in texts]

    def _decoding(self) -> Iterator[Comparison]:
        share = f"{DEFAULT_FRACTION:.1%} of all neurons, in every layer"
        random = self._ablated(self.random)
        yield self._decoded("steered_decode", f"decoding, {share}", random)
        inside = partial(self.decoder.plain, self.random)
        yield self._decoded("steered_context", "mlx-lm's loop inside steered()", inside)
        if circuit := self._cached_circuit():
            own = f"this model's circuit, in {len(circuit.by_layer())} layers"
            name = "steered_decode_circuit"
            yield self._decoded(name, f"decoding, {own}", self._ablated(circuit))

    def _cached_circuit(self) -> Circuit | None:
        """Return the latest cached circuit with the model's default settings."""
        wanted = self.defaults.contrast, self.defaults.fraction
        cached = [
            circuit
            for circuit in Store().circuits(fingerprint(self.model))
            for source in [circuit.provenance]
            if source.contrast and (source.contrast.name, source.fraction) == wanted
        ]
        return max(cached, key=lambda one: str(one.provenance.created), default=None)

    def _ablated(self, circuit: Circuit) -> Callable[[], Decoded]:
        return partial(self.decoder.arms, [Arm.of(circuit, 0.0)])

    def _decoded(
        self, name: str, title: str, ours: Callable[[], Decoded]
    ) -> Comparison:
        work = self.decoder.tokens - 1
        found = Comparison(name, title, "mlx-lm's stream_generate", work, "tokens")
        budget = self._budget(self.settings.pairs)
        plain = self.decoder.plain
        return found.timed(lambda: plain().decode, lambda: ours().decode, budget)

    def _arms(self) -> Iterator[Comparison]:
        rows, chat_rows = self.settings.rows, self.settings.chat_rows
        work = self.decoder, self.random
        budget = self._budget(self.settings.rounds)
        yield from decoding.compare_arms(*work, rows, budget)
        if chat_rows:
            histories = self.ids[: chat_rows[-1]]
            yield from decoding.compare_arms(*work, chat_rows, budget, histories)

    def _discovery(self) -> Iterator[Comparison]:
        shared = f"{walks.shared_share(self.ids):.0%} of their tokens shared"
        title = f"discovery of {len(self.ids)} prompts, {shared}"
        forward = partial(walks.forward_each, self.model, self.ids)
        walk = partial(walks.deltas, self.model, self.ids)
        against = "a plain forward of each"
        yield self.compare_walks("discovery_vs_forward", title, against, forward, walk)
        if self.streamed is not None:
            name, title = "discovery_streamed", "the same, streamed from disk"
            streamed = partial(walks.deltas, self.streamed, self.ids)
            against = "with the weights in memory"
            yield self.compare_walks(name, title, against, walk, streamed)

    def _memory(self) -> Iterator[Memory]:
        hidden = family_of(self.model).embedding(self.model)(mx.array([[0]]))
        shape = Shape.of_config(vars(text_of(self.model).args), hidden.dtype.size)
        arms = decoding.arms_of(self.random, 2)
        # mlx-lm's cache grows in steps
        steps = -(-(len(self.ids[0]) + self.decoder.tokens) // KVCache.step)
        cache = len(arms) * steps * KVCache.step * shape.kv_per_token
        decode = partial(self.decoder.arms, arms)
        yield self._held("decode", f"decoding {len(arms)} arms", decode, cache)
        if self.streamed is not None:
            walk = partial(walks.deltas, self.streamed, self.ids)
            layer = max(map(parameter_bytes, family_of(self.model).layers(self.model)))
            whole = read_whole(self.streamed)
            forecast = streamed_bytes(shape, layer, whole, walks.workload(self.ids))
            title = f"reading {len(self.ids)} prompts, streamed from disk"
            yield self._held("discovery_streamed", title, walk, forecast)
        if self.settings.is_whole:
            sets = [self.prompts, *load_bank()]
            texts = [text for one in sets for text in (*one.positive, *one.negative)]
            forecast = discovery_bytes(shape, walks.workload(self._rendered(texts)))
            title = "a discovery with the bank"
            yield self._held("discovery", title, self._discover, forecast)

    def _discover(self) -> None:
        run_discovery(
            self.model,
            self.tokenizer,
            self.prompts,
            rendering=self.session.rendering,
            progress=self.progress,
        )

    def _held(self, name: str, title: str, work: Action, forecast: int) -> Memory:
        started = self.clock()
        measured = walks.peak_of(work)
        return Memory(name, title, measured, forecast, self.clock() - started)


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return results as a dict: the ratios first, then their details."""
    comparisons = {one.name: one for one in results if isinstance(one, Comparison)}
    physics = next((one for one in results if isinstance(one, Physics)), None)
    plain = comparisons.get("steered_decode")
    memory = (one for one in results if isinstance(one, Memory))
    return {
        "ratios": {name: round(one.ratio[1], 4) for name, one in comparisons.items()},
        "physics": physics.to_dict(plain) if physics else None,
        "comparisons": {name: one.to_dict() for name, one in comparisons.items()},
        "memory": {one.name: one.to_dict() for one in memory},
    }
