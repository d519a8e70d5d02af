"""Measure a model's decoding, arms, discovery and memory."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.bench import decoding, walks
from cna_mlx.diagnostics.bench.costs import Costs
from cna_mlx.diagnostics.bench.decoding import Decoder, Way
from cna_mlx.diagnostics.bench.physics import Physics
from cna_mlx.diagnostics.bench.timed_walk import TimedWalk
from cna_mlx.diagnostics.bench.timing import Budget, Clock, Comparison
from cna_mlx.diagnostics.invariants import random_circuit
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.options import defaults_for
from cna_mlx.discovery.selection import DEFAULT_FRACTION, Selection
from cna_mlx.discovery.session import Session
from cna_mlx.models.context import context_length, vocabulary
from cna_mlx.models.families import family_of
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.models.loading import on_disk
from cna_mlx.models.memory.forecast import decoding_bytes, discovery_bytes
from cna_mlx.models.memory.loaded import loaded_shape, parameter_bytes
from cna_mlx.models.memory.plan import streamed_bytes
from cna_mlx.models.offload.streaming import read_whole
from cna_mlx.prompts import PromptSet, load_bank, load_contrast
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arms import Arm
from cna_mlx.util.progress import Progress, silent

PARTS = ("decoding", "arms", "discovery", "memory")
# The time goes first to the rows' costs, then to the parts by these shares. Sizes are
# chosen so that so many rounds fit.
_COSTS = 0.1
_SHARES = {"decoding": 2.0, "arms": 3.0, "discovery": 4.0, "memory": 0.3}
_PAIRS, _ROUNDS = 5, 3
# What is left out fits into a little more time than was estimated.
_MARGIN = 1.3


@dataclass(frozen=True)
class Settings:
    """How much to measure at most; what is too slow is measured in smaller sizes.

    Attributes:
        seconds: for everything. A comparison has three pairs in any case, so a machine
            that slows down meanwhile takes longer.
        rounds: repetitions of each comparison.
        tokens: the length of each answer.
        prompts: the number of prompts of the timed discovery.
        rows: batch sizes of the arms, ascending.
        chat_rows: the same, with a history for each arm.
        is_whole: also time whole discoveries, and compare the memory of one that reads
            the bank with its forecast.
        parts: some of ``PARTS``.
    """

    seconds: float = 140.0
    rounds: int = 9
    tokens: int = 32
    prompts: int = 200
    rows: tuple[int, ...] = (2, 4, 8, 16)
    chat_rows: tuple[int, ...] = (2, 4)
    is_whole: bool = False
    parts: tuple[str, ...] = PARTS


SHORT = Settings(30.0, 3, 12, 16, (2, 4), (2,))


@dataclass(frozen=True)
class Memory:
    """Measured and forecast memory beyond the weights, in bytes."""

    name: str
    title: str
    measured: int
    forecast: int

    def to_dict(self) -> dict[str, Any]:
        """Return the bytes as a dict."""
        return {"measured_bytes": self.measured, "forecast_bytes": self.forecast}


@dataclass(frozen=True)
class Omitted:
    """What does not fit into the time, and the settings' seconds that it needs."""

    title: str
    seconds: int


Result = Physics | Comparison | Memory | Omitted


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
        both = walks.both_sides(self.prompts)
        self.texts = walks.alternating(both, self.settings.prompts)
        self.ids = self._rendered(self.texts)
        self.random = random_circuit(self.model, DEFAULT_FRACTION)
        self.streamed = on_disk(self.model)
        self._reading: TimedWalk | None = None

    def run(self) -> Iterator[Result]:
        """Yield each result once it is measured.

        Raises:
            InputError: a prompt does not fit into the model's context.
            UnsupportedModelError: the model's MLP blocks are of another kind.
            KeyboardInterrupt: Ctrl-C. The rounds that were complete are yielded first.
        """
        own = self.settings
        end = self.clock() + own.seconds
        seconds = _COSTS * own.seconds
        self._budget = Budget(own.rounds, seconds, self.clock, self.progress)
        counts = sorted({1, *own.rows, *own.chat_rows})
        self.costs = Costs.of(self.model, self.ids[0], counts, self._budget)
        chats = self.ids[: max(own.chat_rows, default=1)]
        cut = self.costs.prompt
        self.histories = [one[: max(2, round(cut * len(one)))] for one in chats]
        yield Physics.of(self.model, self.costs)
        left = [part for part in PARTS if part in own.parts]
        while left and not self._budget.is_interrupted:
            share = _SHARES[left[0]] / sum(_SHARES[part] for part in left)
            seconds = max(0.0, share * (end - self.clock()))
            self._budget = replace(self._budget, seconds=seconds)
            yield from getattr(self, f"_{left.pop(0)}")()
        if self._budget.is_interrupted:
            raise KeyboardInterrupt

    def _rendered(self, texts: Sequence[str]) -> list[list[int]]:
        rendering = self.session.rendering
        return [render_prompt(self.tokenizer, text, rendering) for text in texts]

    def _decoder(self, tokens: int) -> Decoder:
        longest = max(self.histories, key=len)
        tokens = decoding.room(context_length(self.model), longest, tokens)
        endless = decoding.endless(self.tokenizer)
        return Decoder(self.model, endless, self.histories[0], tokens, self.clock)

    def _needed(self, part: str, seconds: float) -> int:
        """The whole bench's seconds that give a part so many, in tens."""
        parts = sum(_SHARES[one] for one in self.settings.parts)
        found = _MARGIN * seconds * parts / _SHARES[part] / (1 - _COSTS)
        return 10 * ceil(found / 10)

    def _decoding(self) -> Iterator[Comparison]:
        share = f"{DEFAULT_FRACTION:.1%} of all neurons, in every layer"
        inside = partial(Decoder.plain, circuit=self.random)
        ways: list[tuple[str, str, Way]] = [
            ("steered_decode", f"decoding, {share}", _ablated(self.random)),
            ("steered_context", "mlx-lm's loop inside steered()", inside),
        ]
        if circuit := self._cached_circuit():
            own = f"decoding, this model's circuit, in {len(circuit.by_layer())} layers"
            ways.append(("steered_decode_circuit", own, _ablated(circuit)))
        seconds, batches = self._budget.seconds / _PAIRS, [1] * (1 + len(ways))
        tokens = self.costs.tokens(batches, seconds, self.settings.tokens)
        yield from decoding.compare(self._decoder(tokens), ways, self._budget)

    def _arms(self) -> Iterator[Comparison | Omitted]:
        own, seconds = self.settings, self._budget.seconds / _ROUNDS
        kept = decoding.fitting(self.costs, own.rows, own.chat_rows, seconds)
        tokens = self.costs.tokens([1, *kept[0], *kept[1]], seconds, own.tokens)
        yield from decoding.compare_arms(
            self._decoder(tokens),
            self.random,
            *kept,
            self.histories,
            self.costs,
            self._budget,
        )
        gone = [f"{count} arms" for count in own.rows[len(kept[0]) :]]
        gone += [f"{n} arms, own histories" for n in own.chat_rows[len(kept[1]) :]]
        if gone:
            needed = _ROUNDS * self.costs.seconds([1, *own.rows, *own.chat_rows])
            yield Omitted("; ".join(gone), self._needed("arms", needed))

    def _sized(self, rounds: int) -> TimedWalk:
        if self._reading is None:
            self._reading = TimedWalk.within(
                self.model,
                self.streamed,
                self.texts,
                self.ids,
                self.costs.prefill / self.costs.length,
                self._budget,
                rounds,
            )
        return self._reading

    def _discovery(self) -> Iterator[Comparison | Omitted]:
        reading, whole = self._sized(_ROUNDS), None
        if self.settings.is_whole:
            contrast = PromptSet.from_prompts(reading.texts[::2], reading.texts[1::2])
            whole = partial(self._discover, contrast, Selection(universal=False))
        yield from reading.compare(whole, self._budget)
        if self.streamed is not None and reading.streamed is None:
            needed = self._needed("discovery", reading.needed)
            yield Omitted("discovery streamed from disk", needed)

    def _memory(self) -> Iterator[Memory]:
        shape = loaded_shape(self.model)
        arms = decoding.arms_of(self.random, 2)
        decoder = self._decoder(2)
        sizes = len(arms), len(decoder.prompt), decoder.tokens
        forecast = decoding_bytes(shape, *sizes, vocabulary(self.model))
        peak = walks.peak_of(partial(decoder.arms, arms))
        yield Memory("decode", f"decoding {len(arms)} arms", peak, forecast)
        reading = self._sized(1)
        work, title = walks.workload(reading.ids), f"reading {len(reading.ids)} prompts"
        peak = reading.peak("discovery")
        yield Memory("discovery", title, peak, discovery_bytes(shape, work))
        if reading.streamed is not None:
            layer = max(map(parameter_bytes, family_of(self.model).layers(self.model)))
            forecast = streamed_bytes(shape, layer, read_whole(self.streamed), work)
            name, title = "discovery_streamed", f"{title}, streamed from disk"
            yield Memory(name, title, reading.peak(name), forecast)
        if self.settings.is_whole:
            sets = [self.prompts, *load_bank()]
            texts = [text for one in sets for text in (*one.positive, *one.negative)]
            forecast = discovery_bytes(shape, walks.workload(self._rendered(texts)))
            peak = walks.peak_of(partial(self._discover, self.prompts))
            title = "a discovery with the bank"
            yield Memory("discovery_with_bank", title, peak, forecast)

    def _discover(
        self, contrast: PromptSet, selection: Selection | None = None
    ) -> None:
        run_discovery(
            self.model,
            self.tokenizer,
            contrast,
            selection,
            rendering=self.session.rendering,
            progress=self.progress,
        )

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


def _ablated(circuit: Circuit) -> Way:
    return lambda decoder: decoder.arms([Arm.of(circuit, 0.0)])


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return results as a dict: the ratios first, then their details."""
    comparisons = {one.name: one for one in results if isinstance(one, Comparison)}
    physics = next((one for one in results if isinstance(one, Physics)), None)
    memory = (one for one in results if isinstance(one, Memory))
    omitted = (one for one in results if isinstance(one, Omitted))
    return {
        "ratios": {name: round(one.ratio[1], 4) for name, one in comparisons.items()},
        "too_noisy": [name for name, one in comparisons.items() if one.is_noisy],
        "physics": physics.to_dict() if physics else None,
        "comparisons": {name: one.to_dict() for name, one in comparisons.items()},
        "memory": {one.name: one.to_dict() for one in memory},
        "left_out": {one.title: one.seconds for one in omitted},
    }
