"""What a comparison comes to, in plain words and chosen by the figures alone."""

from statistics import fmean

from cna_mlx.analysis.circuit_overlap import SharedNeurons
from cna_mlx.analysis.compare import Comparison, Effect, Figures
from cna_mlx.analysis.compared_model import ComparedModel
from cna_mlx.analysis.paper import BASE_AND_INSTRUCT, rows
from cna_mlx.analysis.statistics import PairedChange, Proportion
from cna_mlx.analysis.verdict import FEWEST, Outcome, Verdict, conclude, fell
from cna_mlx.discovery.auc import Auc
from cna_mlx.evaluation.run_config import circuit_sha256
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.util.formatting import counted, p_value

_LEVEL = 0.05
# The paper's two pairs of a base model and its instruct model.
_PAIRS = tuple(pair.model for pair in BASE_AND_INSTRUCT)


def findings(found: Comparison) -> tuple[str, ...]:
    """What can be said of two models or runs: a sentence or two for each question.

    Do both tell the two sides of the contrast apart; do their circuits share more than
    chance; which refuses more; what does each circuit do to either model; what does the
    paper say of such a pair; and for what all this holds.

    Args:
        found: as :func:`cna_mlx.analysis.compare.compare_sides` returns it.
    """
    lines = [_discrimination(found), *_sharing(found), *_refusing(found)]
    for own, other in (found.sides, found.sides[::-1]):
        lines += _effects(own, other)
    if not found.is_same_shape:
        lines.append(
            "Neither model can be given the other's circuit: their shapes differ."
        )
    return tuple(lines + _base_model(found) + _quantized(found) + _bounds(found))


# ----------------------------------------------------------------- telling sides apart


def _discrimination(found: Comparison) -> str:
    sides = [figures.side for figures in found.sides]
    known = [(side, side.own) for side in sides if side.own]
    if not known:
        return "How well the gauges tell held-out prompts apart was not measured."
    telling = [side.name for side, own in known if own.low > 0.5]
    what = _prompts(known[0][0])
    if len(known) == 1:
        able = "tells" if telling else "cannot be seen to tell"
        start = f"{known[0][0].name} {able} {what} apart"
    elif len(telling) == 1:
        start = f"Only {telling[0]} can be seen to tell {what} apart"
    else:
        start = f"{'Both' if telling else 'Neither can be seen to'} tell {what} apart"
    figures = ", ".join(f"{side.name} {_auc(own)}" for side, own in known)
    line = f"{start}: held-out AUC {figures}."
    return f"{line} {_rendered_alike(found)}"


def _rendered_alike(found: Comparison) -> str:
    if found.is_rendered_alike:
        return "Both render a prompt to the same ids, so that is one rendering."
    same = [(one.side.name, one.side.same) for one in found.sides if one.side.same]
    if len(same) < len(found.sides):
        return "Each has its own rendering; under the same one it was not measured."
    figures = ", ".join(f"{name} {_auc(value)}" for name, value in same)
    return f"Each has its own rendering; with plain text for both: {figures}."


def _prompts(side: ComparedModel) -> str:
    """``24 magic and 24 ordinary prompts``."""
    own = side.contrast
    if own is None:
        return "held-out prompts"
    positive = f"{own.positive} {own.positive_label}"
    return f"{positive} and {own.negative} {own.negative_label} prompts"


# ------------------------------------------------------------------- shared by circuits


def _sharing(found: Comparison) -> list[str]:
    overlap = found.overlap
    if overlap is None:
        return ["One of the two has no circuit: there is nothing to share."]
    alike = "-" if overlap.profile_overlap is None else f"{overlap.profile_overlap:.2f}"
    if overlap.shared is None or found.p is None:
        lines = [
            f"Their circuits ({overlap.sizes[0]} and {overlap.sizes[1]} neurons) can "
            "share no neuron, as the shapes differ; their layer profiles overlap by "
            f"{alike} (1 is all)."
        ]
    else:
        lines = [_shared(overlap.sizes, overlap.shared, found.p, alike)]
    contrasts = [one for figures in found.sides if (one := figures.side.contrast)]
    if len({one.sha256 for one in contrasts}) > 1:
        names = " and ".join(str(one.name) for one in contrasts)
        lines.append(
            f"The circuits were made from different contrasts ({names}): the overlap "
            "is as much theirs as the models'."
        )
    return lines


def _shared(sizes: tuple[int, int], one: SharedNeurons, p: float, alike: str) -> str:
    what = "more than chance explains" if p < _LEVEL else "no more than chance explains"
    line = (
        f"The circuits share {one.count} of {sizes[0]} and {sizes[1]} neurons: Jaccard "
        f"{one.jaccard:.2f}, {one.chance_by_layer:.4f} for random circuits with as "
        f"many in each layer: {what} (p {p_value(p)}). Their layer profiles overlap by "
        f"{alike} (1 is all)."
    )
    if one.order is not None:
        line += f" The shared ones' |delta| rank alike by {one.order:.2f} (Spearman)."
    if one.same_sign.n:
        line += f" {_count(one.same_sign)} have the same sign."
    return line


# --------------------------------------------------------------------- what circuits do


def _refusing(found: Comparison) -> list[str]:
    between = found.of("target", "baseline")
    if between is None:
        return []
    a, b = (figures.side.name for figures in found.sides)
    change = between.change
    if change.p >= _LEVEL:
        what = f"Unsteered, {a} and {b} refuse alike as far as chance lets one see"
    else:
        more, less = (a, b) if fell(change) else (b, a)
        what = f"Unsteered, {more} refuses more than {less}"
    return [
        f"{what}: {_count(change.before)} and {_count(change.after)} prompts "
        f"({change.lost} only {a}, {change.gained} only {b}; exact McNemar p "
        f"{p_value(change.p)})."
    ]


def _effects(own: Figures, other: Figures) -> list[str]:
    name = own.side.name
    lines = []
    if (effect := own.with_own) and (verdict := _verdict(own)):
        is_open = verdict.outcome is Outcome.TOO_FEW
        lines.append(
            f"{name}, its own circuit at {effect.arm.strength:.15g}: "
            f"{_change(effect.change) if is_open else verdict.headline} "
            f"{_content(own, effect)}"
        )
    if effect := own.with_other:
        what = _whose(own.side.run, effect, other)
        lines.append(
            f"{name}, {what} at {effect.arm.strength:.15g}: {_change(effect.change)} "
            f"{_content(own, effect)}"
        )
    return lines


def _verdict(figures: Figures) -> Verdict | None:
    return conclude(figures.summary) if figures.summary else None


def _whose(run: RunRecord | None, effect: Effect, other: Figures) -> str:
    """The other model's circuit, if it is: a run may have tried any."""
    entry = run.config.circuits.get(str(effect.arm.circuit)) if run else None
    circuit = other.side.circuit
    if circuit and entry and entry.sha256 == circuit_sha256(circuit):
        return f"the circuit of {other.side.name}"
    return effect.arm.label


def _change(change: PairedChange) -> str:
    rates = f"{_count(change.before)} refused before, {_count(change.after)} after"
    tests = (
        f"{change.lost} lost, {change.gained} new, {change.points.low:+.0f} to "
        f"{change.points.high:+.0f} points, p {p_value(change.p)}"
    )
    if change.p < _LEVEL:
        how = "Refusals fell" if fell(change) else "Refusals rose"
    elif change.before.successes < FEWEST:
        how = "Too few refusals to tell a fall"
    else:
        how = "Refusals did not change by more than chance explains"
    return f"{how}: {rates} ({tests})."


def _content(figures: Figures, effect: Effect) -> str:
    """How many answers are others, and whether they are still text."""
    group = figures.group("target")
    assert group is not None
    arm = group.arm(effect.arm.label)
    text = f"{_count(effect.differing)} answers differ from the unsteered ones"
    if control := group.control("matched"):
        shares = [figures.differing["target"][label].value for label in control.labels]
        text += f" (matched controls of its own: {100 * fmean(shares):.0f}%"
        if effect.arm.role == "other":
            text += f", and they refuse {100 * control.refused:.0f}%"
        text += ")"
    quality = f"{group.baseline.quality.value:.2f} to {arm.quality.value:.2f}"
    return f"{text}; quality {quality}, INVALID {_percent(arm.invalid)}."


# --------------------------------------------------------------------- beside the paper


def _base_model(found: Comparison) -> list[str]:
    """The paper's base models, where one of the two refuses far less than the other."""
    between = found.of("target", "baseline")
    if between is None or between.change.p >= _LEVEL:
        return []
    change = between.change
    low, high = sorted((change.before, change.after), key=lambda one: one.value)
    if low.value > high.value / 2:
        return []
    figures = found.sides[0 if low is change.before else 1]
    rates = f"{_percent(low)} of these prompts"
    if effect := figures.with_own:
        rates += f", and {_percent(effect.change.after)} with its own at 0"
    bases = [row for row in rows() if row.model in _PAIRS]
    said = ", ".join(
        f"{row.model} {100 * row.baseline:.1f}% to {100 * row.ablated:.1f}%"
        for row in bases
    )
    common = ", ".join(
        f"{pair.model} {pair.shared} of {pair.size}" for pair in BASE_AND_INSTRUCT
    )
    return [
        f"The paper, of base models with their own circuit ablated: {said} refused; "
        "content shifts, no change of behaviour. Neurons that a base circuit there "
        f"shares with the instruct one's: {common}. {figures.side.name} refuses "
        f"{rates}: alike in this, though few refusals do not make a base model."
    ]


def _quantized(found: Comparison) -> list[str]:
    """The question that the paper's authors leave open, where the two can answer it."""
    models = [figures.side.model for figures in found.sides]
    kinds = [str(one.quantization) for one in models]
    alike = models[0].architecture == models[1].architecture
    if not (found.is_same_shape and alike) or len(set(kinds)) < 2:
        return []
    if not any("bit" in kind for kind in kinds):  # bf16 and float32, say
        return []
    parts = []
    if found.overlap and (one := found.overlap.shared):
        parts.append(f"the circuits overlap by {one.jaccard:.2f} (Jaccard)")
    owns = [(figures.side.name, figures.side.own) for figures in found.sides]
    if known := [f"{name} {own.value:.2f}" for name, own in owns if own]:
        parts.append(f"the held-out AUC is {' and '.join(known)}")
    for figures, other in (found.sides, found.sides[::-1]):
        if effect := figures.with_other:
            parts.append(
                f"the circuit of {other.side.name} takes {figures.side.name} from "
                f"{_count(effect.change.before)} refused to "
                f"{effect.change.after.successes}"
            )
    tried = [one.with_other for one in found.sides if one.with_other]
    few = ""
    if any(one.change.before.successes < FEWEST for one in tried):
        few = " That is too few refusals for an answer on the last point."
    return [
        "Whether a circuit carries over to a quantized model is a question that the "
        f"paper's authors leave open. For these two ({kinds[0]}, {kinds[1]}), if they "
        f"come from the same weights: {'; '.join(parts)}.{few}"
    ]


def _bounds(found: Comparison) -> list[str]:
    """For what it holds."""
    lines = []
    runs = [figures.side.run for figures in found.sides]
    for figures in found.sides:
        run = figures.side.run
        if run and figures.summary and run.status != "complete":
            lines.append(
                f"{figures.side.name} did not answer all of its "
                f"{counted(run.planned, 'prompt')}: the rest may change this."
            )
    lengths = [run.config.max_tokens for run in runs if run]
    if len(set(lengths)) > 1:
        lines.append(
            f"The answers were cut at {lengths[0]} and {lengths[1]} tokens: rates of "
            "two protocols are not the same thing."
        )
    if found.prompts:
        lines.append(
            f"This holds for prompts like the {found.prompts} that both answered, "
            f"greedy decoding of {lengths[0]} tokens, and these weights. The labels "
            "are a heuristic; a high AUC does not say that ablating changes an answer."
        )
    return lines


def _auc(value: Auc) -> str:
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _percent(one: Proportion) -> str:
    return f"{100 * one.value:.0f}%"


def _count(one: Proportion) -> str:
    return f"{one.successes} of {one.n}"
