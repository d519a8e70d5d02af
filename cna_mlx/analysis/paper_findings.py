"""State in sentences what the paper says of two models like these."""

from cna_mlx.analysis.comparison import ModelComparison
from cna_mlx.analysis.damage import LEVEL
from cna_mlx.analysis.decision import FEWEST
from cna_mlx.analysis.paper import BASE_AND_INSTRUCT, paper_rows
from cna_mlx.analysis.statistics import PairedChange
from cna_mlx.util.formatting import counted, decimal, percent

# The paper's base models refuse 2 and 14% of the prompts.
_LIKE_A_BASE_MODEL = 0.2


def paper_findings(found: ModelComparison) -> list[str]:
    """Return what the paper says of base and quantized models, if it applies."""
    return _base_model(found) + _quantized(found)


def _base_model(found: ModelComparison) -> list[str]:
    """The paper's base models, if one of the two refuses far less than the other."""
    between = found.of("target", "baseline")
    if between is None or between.change.p >= LEVEL:
        return []
    change = between.change
    low, high = sorted((change.before, change.after), key=lambda one: one.value)
    if low.value > min(high.value / 2, _LIKE_A_BASE_MODEL):
        return []
    side = found.sides[0 if low is change.before else 1]
    rates = f"{percent(low.value)} of these prompts"
    if effect := side.with_own:
        rates += f", and {percent(effect.change.after.value)} with its own at 0"
    said = ", ".join(
        f"{row.model} {row.printed[0]} to {row.printed[1]}"
        for row in paper_rows()
        if row.model in [pair.model for pair in BASE_AND_INSTRUCT]
    )
    common = ", ".join(
        f"{pair.model} {pair.shared} of {pair.size}" for pair in BASE_AND_INSTRUCT
    )
    return [
        f"In the paper, ablating a base model's own circuit changes refusals from "
        f"{said}; the content shifts, the behaviour stays. Its circuit shares few "
        f"neurons with the instruct model's: {common}. {side.name} refuses {rates}: "
        "this is like a base model, but few refusals do not prove that it is one."
    ]


def _quantized(found: ModelComparison) -> list[str]:
    """The paper's open question of quantized models, if these two can answer it."""
    kinds = [str(side.model.quantization) for side in found.sides]
    alike = found.a.model.architecture == found.b.model.architecture
    if not (found.is_same_shape and alike) or len(set(kinds)) < 2:
        return []
    if not any("bit" in kind for kind in kinds):  # bf16 and float32, say
        return []
    parts = []
    if found.overlap and (one := found.overlap.shared):
        parts.append(f"the circuits overlap by {decimal(one.jaccard)} (Jaccard)")
    owns = [(side.name, side.own) for side in found.sides]
    if known := [f"{name} {decimal(own.value)}" for name, own in owns if own]:
        parts.append(f"the held-out AUC is {' and '.join(known)}")
    tried = []
    for side, other in (found.sides, found.sides[::-1]):
        if effect := side.with_other:
            tried.append(effect.change.before.successes)
            parts.append(
                f"the circuit of {other.name} turns {effect.change.lost} of "
                f"{counted(effect.change.before.successes, 'refusal')} of {side.name} "
                f"into answers{_ruined(effect.change)}"
            )
    few = ""
    if any(count < FEWEST for count in tried):
        few = " The last point rests on too few refusals."
    return [
        "The paper leaves open whether a circuit carries over to a quantized model. "
        f"For these two ({kinds[0]}, {kinds[1]}), if they come from the same weights: "
        f"{'; '.join(parts)}.{few}"
    ]


def _ruined(change: PairedChange) -> str:
    return f" and {change.ruined} into unusable text" if change.ruined else ""
