"""All that `bench` measures of a model, one result after the other."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.bench.arms import arms_of, compare_arms
from cna_mlx.diagnostics.bench.decoding import (
    Decoder,
    compare_context,
    compare_steered,
    endless,
    room,
)
from cna_mlx.diagnostics.bench.discovering import (
    Walk,
    both_sides,
    compare_walks,
    deltas,
    forward_each,
    peak_of,
    shared_share,
    workload,
)
from cna_mlx.diagnostics.bench.physics import Physics
from cna_mlx.diagnostics.bench.timing import Budget, Clock, Comparison
from cna_mlx.diagnostics.device import bandwidth
from cna_mlx.diagnostics.invariants import random_circuit
from cna_mlx.diagnostics.model import weight_bytes
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.selection import DEFAULT_FRACTION
from cna_mlx.models.context import context_length
from cna_mlx.models.families import family_of
from cna_mlx.models.loading import on_disk
from cna_mlx.models.memory.forecast import Shape, discovery_bytes
from cna_mlx.models.memory.plan import streamed_bytes
from cna_mlx.models.offload.streaming import read_whole
from cna_mlx.prompts import PromptSet, load_bank
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.util.environment import attempt, environment
from cna_mlx.util.progress import Progress, silent

PARTS = ("decoding", "arms", "discovery", "memory")


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        pairs, rounds, walks: repetitions of decoding, of the arms, of the discovery.
        tokens: of each answer.
        prompts: of the discovery that is timed.
        rows: numbers of arms, ascending.
        chat_rows: likewise, with histories of their own.
        seconds: no comparison begins another repetition after this long.
        is_whole: run a discovery with the bank, to hold its memory against the plan.
        parts: which of ``PARTS``; what limits decoding is always told.
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
    """What was held beyond the weights, and what the plan had said.

    Attributes:
        name: what held it, for programs.
        title: likewise, for people.
        measured, forecast: bytes.
        seconds: what it took.
    """

    name: str
    title: str
    measured: int
    forecast: int
    seconds: float


Result = Physics | Comparison | Memory


@dataclass
class Bench:
    """A model, and how it is to be measured.

    Attributes:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        contrast: its prompts are decoded after and discovered from.
        rendering: how they become ids.
        settings: how much is measured.
        circuit: one to ablate beside the random one, which is the worst case: it is
            spread over all layers.
        progress: told within each comparison.
        clock: seconds that only grow.
    """

    model: Any
    tokenizer: Any
    contrast: PromptSet
    rendering: Rendering = field(default_factory=Rendering)
    settings: Settings = field(default_factory=Settings)
    circuit: Circuit | None = None
    progress: Progress = silent
    clock: Clock = time.perf_counter

    def __post_init__(self) -> None:
        texts = both_sides(self.contrast, self.settings.prompts)
        self.ids = [
            render_prompt(self.tokenizer, text, self.rendering) for text in texts
        ]
        histories = self.ids[: max(self.settings.chat_rows, default=1)]
        longest = max(histories, key=len)
        tokens = room(context_length(self.model), longest, self.settings.tokens)
        self.decoder = Decoder(
            self.model, endless(self.tokenizer), self.ids[0], tokens, self.clock
        )
        self.random = random_circuit(self.model, DEFAULT_FRACTION)
        self.streamed = on_disk(self.model)

    def run(self) -> Iterator[Result]:
        """Every result as soon as it is known.

        Raises:
            InputError: a prompt does not fit into the model's context.
            UnsupportedModelError: the model's MLP blocks are of another kind.
        """
        self.progress("memory bandwidth", 0, 1)
        rate = attempt(bandwidth)
        kind = str(environment()["backend"])
        tokens = self.decoder.tokens
        yield Physics.of(self.model, self.ids[0], tokens, rate, kind)
        measures: dict[str, Callable[[], Iterator[Result]]] = {
            "decoding": self._decoding,
            "arms": self._arms,
            "discovery": self._discovery,
            "memory": self._memory,
        }
        for part in PARTS:
            if part in self.settings.parts:
                yield from measures[part]()

    def _budget(self, repetitions: int) -> Budget:
        return Budget(repetitions, self.settings.seconds, self.clock)

    def _decoding(self) -> Iterator[Comparison]:
        budget = self._budget(self.settings.pairs)
        share = f"{DEFAULT_FRACTION:.1%} of all neurons, in every layer"
        steered = partial(compare_steered, self.decoder, progress=self.progress)
        yield steered(
            circuit=self.random, budget=budget, name="steered_decode", what=share
        )
        yield compare_context(self.decoder, self.random, budget, self.progress)
        if self.circuit is not None:
            own = f"this model's circuit, in {len(self.circuit.by_layer())} layers"
            name = "steered_decode_circuit"
            yield steered(circuit=self.circuit, budget=budget, name=name, what=own)

    def _arms(self) -> Iterator[Comparison]:
        several = partial(
            compare_arms,
            self.decoder,
            self.random,
            budget=self._budget(self.settings.rounds),
            progress=self.progress,
        )
        yield from several(self.settings.rows)
        if rows := self.settings.chat_rows:
            yield from several(rows, histories=self.ids[: rows[-1]])

    def _discovery(self) -> Iterator[Comparison]:
        shared = f"{shared_share(self.ids):.0%} of their tokens shared"
        title = f"discovery of {len(self.ids)} prompts, {shared}"
        against = "a plain forward of each"
        yield self._walks(
            (forward_each, deltas), ("discovery_vs_forward", title, against)
        )
        if self.streamed is not None:
            title = "the same with the weights on the disk"
            names = ("discovery_streamed", title, "with the weights in memory")
            yield self._walks((deltas, self._streamed_deltas), names)

    def _walks(
        self, ways: tuple[Walk, Walk], names: tuple[str, str, str]
    ) -> Comparison:
        budget = self._budget(self.settings.walks)
        return compare_walks(self.model, self.ids, ways, names, budget, self.progress)

    def _streamed_deltas(self, _: Any, ids: Sequence[Sequence[int]]) -> Any:
        return deltas(self.streamed, ids)

    def _memory(self) -> Iterator[Memory]:
        shape = self._shape()
        arms = arms_of(self.random, 2)
        # mlx-lm's cache grows by steps
        steps = -(-(len(self.ids[0]) + self.decoder.tokens) // KVCache.step)
        cache = len(arms) * steps * KVCache.step * shape.kv_per_token
        decode = partial(self.decoder.arms, arms)
        yield self._held("decode", f"decoding {len(arms)} arms", decode, cache)
        if self.streamed is not None:
            walk = partial(self._streamed_deltas, None, self.ids)
            layers = map(weight_bytes, family_of(self.model).layers(self.model))
            whole = read_whole(self.streamed)
            forecast = streamed_bytes(shape, max(layers), whole, workload(self.ids))
            title = f"reading {len(self.ids)} prompts, weights on the disk"
            yield self._held("discovery_streamed", title, walk, forecast)
        if self.settings.is_whole:
            discover = partial(
                run_discovery,
                self.model,
                self.tokenizer,
                self.contrast,
                rendering=self.rendering,
                progress=self.progress,
            )
            sets = [self.contrast, *load_bank()]
            texts = [text for one in sets for text in (*one.positive, *one.negative)]
            ids = [
                render_prompt(self.tokenizer, text, self.rendering) for text in texts
            ]
            forecast = discovery_bytes(shape, workload(ids))
            title = "a discovery with the bank"
            yield self._held("discovery", title, discover, forecast)

    def _held(
        self, name: str, title: str, work: Callable[[], Any], forecast: int
    ) -> Memory:
        started = self.clock()
        measured = peak_of(work)
        return Memory(name, title, measured, forecast, self.clock() - started)

    def _shape(self) -> Shape:
        hidden = family_of(self.model).embed(self.model, mx.array([[0]]))
        return Shape.of_config(vars(self.model.args), hidden.dtype.size)


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """Results as plain data: the ratios first, then what they are made of."""
    comparisons = [one for one in results if isinstance(one, Comparison)]
    physics = next((one for one in results if isinstance(one, Physics)), None)
    plain = next((one for one in comparisons if one.name == "steered_decode"), None)
    return {
        "ratios": {one.name: round(one.ratio.median, 4) for one in comparisons},
        "physics": physics.to_json(plain) if physics else None,
        "comparisons": {one.name: one.to_json() for one in comparisons},
        "memory": {
            one.name: {
                "measured_bytes": one.measured,
                "forecast_bytes": one.forecast,
                "seconds": round(one.seconds, 2),
            }
            for one in results
            if isinstance(one, Memory)
        },
    }
