"""Tell from the figures of two models whether each circuit works on the other one."""

from dataclasses import dataclass

from cna_mlx.analysis.compared_model import ComparedModel, Effect
from cna_mlx.analysis.comparison import ModelComparison
from cna_mlx.analysis.decision import Outcome
from cna_mlx.evaluation.run_config import circuit_sha256

_FELL = (Outcome.FELL, Outcome.MORE)


@dataclass(frozen=True)
class Transfer:
    """One model's circuit on the other model.

    Attributes:
        home: the model that the circuit was found on.
        model: the model that it was tried on.
        at_home: what it does on its own model; None if unknown.
        away: what it does on the other one.
    """

    home: ComparedModel
    model: ComparedModel
    at_home: Effect | None
    away: Effect

    @property
    def statement(self) -> str:
        """What was found, in a sentence or two."""
        lost = f"{_lost(self.away)} refusals lost there"
        at_home = _at_home(self.at_home)
        outcome = self.away.outcome
        more = "" if outcome is Outcome.FELL else f" There: {outcome}."
        return f"{self.home.name}'s circuit {self._verb}: {lost}{at_home}.{more}"

    @property
    def _verb(self) -> str:
        name, outcome = self.model.name, self.away.outcome
        works_at_home = self.at_home is not None and self.at_home.outcome in _FELL
        if outcome in _FELL:
            return f"{'carries over to' if works_at_home else 'works on'} {name}"
        if outcome is Outcome.BROKE:
            return f"breaks {name}"
        if outcome is Outcome.HELD and works_at_home:
            return f"does not carry over to {name}"
        return f"is not shown to work on {name}"


def transfers(found: ModelComparison) -> list[Transfer]:
    """A's circuit on B, then B's on A; without what was not tried."""
    pairs = (found.sides, found.sides[::-1])
    return [
        Transfer(home, model, home.with_own, away)
        for home, model in pairs
        if (away := model.with_other) and is_of(home, model, away)
    ]


def is_of(home: ComparedModel, model: ComparedModel, effect: Effect) -> bool:
    """Whether an effect on a model is of the other one's circuit: a run may have tried
    any.
    """
    entry = model.run and model.run.config.circuits.get(str(effect.arm.circuit))
    if not entry or not home.circuit:
        return False
    return entry.sha256 == circuit_sha256(home.circuit)


def _lost(effect: Effect) -> str:
    return f"{effect.lost.successes} of {effect.lost.n}"


def _at_home(effect: Effect | None) -> str:
    if effect is None:
        return ""
    why = "" if effect.outcome in _FELL else f", {effect.outcome}"
    return f" ({_lost(effect)} at home{why})"
