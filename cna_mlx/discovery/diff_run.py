"""Answer prompts in every arm of a model, for `diff`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.chosen import circuit_entries
from cna_mlx.discovery.gauge import is_calibrated
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.labels.thoughts import cut_thoughts
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts import load_contrast
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import ArmRates, PromptResult, diff, rates
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.steering.generation import DEFAULT_MAX_TOKENS
from cna_mlx.strength import Strength


@dataclass(frozen=True)
class DiffRun:
    """Prompts and the arms that answer them; the first arm is the baseline.

    :meth:`run` adds to ``results``.
    """

    session: Session
    arms: tuple[Arm, ...]
    prompts: tuple[str, ...]
    max_tokens: int = DEFAULT_MAX_TOKENS
    results: list[PromptResult] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        session: Session,
        prompts: Sequence[str],
        options: DiscoveryOptions,
        circuits: Sequence[str] = (),
        multipliers: Sequence[Strength] = (),
        max_tokens: int = DEFAULT_MAX_TOKENS,
    ) -> "DiffRun":
        """The baseline and the arms of :meth:`Session.steered_arms`."""
        arms = session.steered_arms(options, circuits, multipliers)
        return cls(session, (BASELINE, *arms), tuple(prompts), max_tokens)

    @property
    def gauge(self) -> Circuit | None:
        """The first circuit that can gauge prompts."""
        circuits = (circuit for arm in self.arms for circuit, _ in arm.steering)
        able = (c for c in circuits if isinstance(c, Circuit) and can_gauge(c))
        return next(able, None)

    @cached_property
    def is_calibrated(self) -> bool:
        """Whether the gauge was measured on these weights with this rendering."""
        session, gauge = self.session, self.gauge
        return gauge is not None and is_calibrated(
            session.model, session.tokenizer, gauge, session.rendering
        )

    @property
    def whole(self) -> list[PromptResult]:
        """The results that were not interrupted."""
        return [result for result in self.results if result.is_whole]

    @property
    def rates(self) -> list[ArmRates]:
        """The labels of each arm, counted over the complete results."""
        return rates(self.whole) if self.whole else []

    def run(self) -> Iterator[PromptResult]:
        """Answer the prompts; the reporter's ``stop`` ends early."""
        session = self.session
        with session.reporter.watching(), wired():
            for event in diff(
                session.model,
                session.tokenizer,
                self.prompts,
                self.arms,
                rendering=session.rendering,
                max_tokens=self.max_tokens,
                gauge=self.gauge,
                stop=session.reporter.stop,
            ):
                if isinstance(event, PromptResult):
                    self.results.append(event)
                    yield event
        if cut := sum(one.in_thought for one in self.results):
            session.reporter.warn(cut_thoughts(cut))

    def to_dict(self, *, hides_text: bool = False) -> dict[str, Any]:
        """The results for JSON; see :meth:`ArmResult.to_dict`."""
        return {
            "model": self.session.name,
            "rendering": self.session.rendering.to_dict(),
            "max_tokens": self.max_tokens,
            "circuits": circuit_entries(self.arms),
            "results": [one.to_dict(hides_text=hides_text) for one in self.results],
            "rates": [rate.to_dict() for rate in self.rates],
        }


def example_prompts(model: str, options: DiscoveryOptions) -> tuple[list[str], str]:
    """Four prompts for a command without prompts, and a note on their source."""
    contrast = options.prompts(model)
    if contrast.name == "refusal":
        held_out = load_contrast("refusal-small")
        texts = [*held_out.positive[:3], held_out.negative[0]]
        return texts, "no prompts given: using four of refusal-small (-p, --prompts)"
    texts = [*contrast.positive[:2], *contrast.negative[:2]]
    return texts, (
        f"no prompts given: using four of {contrast.name}, which may be discovery "
        "prompts (-p, --prompts)"
    )
