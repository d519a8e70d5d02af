"""State in sentences what a comparison of two models found, from its figures alone."""

from statistics import fmean

from cna_mlx.analysis.circuit_overlap import SharedNeurons
from cna_mlx.analysis.compared_model import ComparedModel, Effect
from cna_mlx.analysis.comparison import ModelComparison
from cna_mlx.analysis.damage import LEVEL, text_damage
from cna_mlx.analysis.decision import FEWEST, excludes_fall, fell
from cna_mlx.analysis.paper_findings import paper_findings
from cna_mlx.analysis.statistics import PairedChange, Proportion
from cna_mlx.analysis.transfer import is_of, transfers
from cna_mlx.analysis.verdict import conclude
from cna_mlx.evaluation.run_config import RULES
from cna_mlx.strength import Pin
from cna_mlx.util import formatting
from cna_mlx.util.formatting import auc_text, counted, decimal, p_value, percent


def findings(found: ModelComparison) -> tuple[str, ...]:
    """Return a sentence or two for each question about two models or runs.

    Do both tell the two sides of the contrast apart? Do their circuits share more than
    chance? Which refuses more? What does each circuit do to either model? What does
    the paper say of such a pair? What are the limits of all this?
    """
    lines = [_discrimination(found), *_sharing(found), *_refusing(found)]
    for own, other in (found.sides, found.sides[::-1]):
        lines += _effects(own, other)
    lines += [one.statement for one in transfers(found)]
    lines += _weights(found)
    if not found.is_same_shape:
        lines.append(
            "The circuits cannot be tried on each other's model: the shapes differ."
        )
    return tuple(lines + paper_findings(found) + _bounds(found))


def headline(found: ModelComparison) -> str:
    """Return the comparison in one sentence: refusals first, then the circuits."""
    a, b = (side.name for side in found.sides)
    between, overlap = found.of("target", "baseline"), found.overlap
    parts = []
    if between is not None:
        change = between.change
        counts = f"{change.before.successes} and {_count(change.after)}"
        parts.append(f"{_more(change, a, b)} ({counts} prompts)")
    if overlap is not None and overlap.shared is not None:
        more = "more" if overlap.shared.p < LEVEL else "no more"
        shared = f"{overlap.shared.shared} of {min(overlap.sizes)}"
        their = "their" if parts else "Their"
        parts.append(f"{their} circuits share {more} neurons than chance ({shared})")
    if not parts:
        return f"{a} and {b} have nothing that can be compared directly."
    return f"{'; '.join(parts)}."


def _more(change: PairedChange, a: str, b: str) -> str:
    if change.p >= LEVEL:
        return f"{a} and {b} are not shown to differ in refusals"
    more, less = (a, b) if fell(change) else (b, a)
    return f"{more} refuses more than {less}"


# ----------------------------------------------------------------- telling sides apart


def _discrimination(found: ModelComparison) -> str:
    known = [(side, side.own) for side in found.sides if side.own]
    if not known:
        return "The gauges were not measured on held-out prompts."
    able = [side.name for side, own in known if own.low > 0.5]
    what = f"{_prompts(known[0][0])} apart"
    if len(known) == 1:
        start = (
            f"{known[0][0].name} {'tells' if able else 'is not shown to tell'} {what}"
        )
    elif len(able) == 1:
        start = f"Only {able[0]} is shown to tell {what}"
    else:
        start = f"{'Both tell' if able else 'Neither is shown to tell'} {what}"
    figures = ", ".join(f"{side.name} {auc_text(own)}" for side, own in known)
    return f"{start}: held-out AUC {figures}. {_rendered_alike(found)}"


def _rendered_alike(found: ModelComparison) -> str:
    if found.is_rendered_alike:
        return "Both render a prompt to the same ids."
    same = [(side.name, side.same) for side in found.sides if side.same]
    if len(same) < len(found.sides):
        return "Each has its own rendering; a common one was not measured."
    figures = ", ".join(f"{name} {auc_text(value)}" for name, value in same)
    return f"Each has its own rendering; with plain text for both: {figures}."


def _prompts(side: ComparedModel) -> str:
    """``24 magic and 24 ordinary prompts``."""
    own = side.contrast
    if own is None:
        return "held-out prompts"
    positive = f"{own.positive} {own.positive_label}"
    return f"{positive} and {own.negative} {own.negative_label} prompts"


# ------------------------------------------------------------------- shared by circuits


def _sharing(found: ModelComparison) -> list[str]:
    overlap = found.overlap
    if overlap is None:
        return ["One of the two has no circuit: there is no overlap to measure."]
    layers = f"Their layer profiles overlap by {decimal(overlap.profile_overlap)} of 1."
    if overlap.shared is None:
        sizes = "{} and {}".format(*overlap.sizes)
        lines = [
            f"The circuits ({sizes} neurons) cannot share neurons: the shapes differ. "
            f"{layers}"
        ]
    else:
        lines = [_shared(overlap.sizes, overlap.shared, layers)]
    contrasts = [one for side in found.sides if (one := side.contrast)]
    if len({one.sha256 for one in contrasts}) > 1:
        names = " and ".join(str(one.name) for one in contrasts)
        lines.append(
            f"The circuits were found with different contrasts ({names}), which lowers "
            "the overlap."
        )
    return lines


def _shared(sizes: tuple[int, int], one: SharedNeurons, layers: str) -> str:
    what = "more than chance" if one.p < LEVEL else "no more than chance"
    line = (
        f"The circuits share {one.shared} of {sizes[0]} and {sizes[1]} neurons, {what} "
        f"(p {p_value(one.p)}): Jaccard {decimal(one.jaccard)}, "
        f"{decimal(one.chance_by_layer, 4)} expected of random circuits with the same "
        f"layers. {layers}"
    )
    if one.rank_correlation is not None:
        order = decimal(one.rank_correlation)
        line += f" Rank correlation of the shared |delta| {order} (Spearman)."
    if one.same_sign.n:
        line += f" {_count(one.same_sign)} have the same sign."
    return line


# --------------------------------------------------------------------- what circuits do


def _refusing(found: ModelComparison) -> list[str]:
    between = found.of("target", "baseline")
    if between is None:
        return []
    a, b = (side.name for side in found.sides)
    change = between.change
    what = f"Unsteered, {_more(change, a, b)}"
    points = formatting.points_range(change.points.low, change.points.high)
    return [
        f"{what}: {_count(change.before)} and {_count(change.after)} prompts "
        f"({change.lost} answered by {b} only, {change.gained} by {a} only"
        f"{_unusable(found)}; {points} points, exact McNemar p {p_value(change.p)})."
    ]


def _weights(found: ModelComparison) -> list[str]:
    """Which weights differ; where refusals fell, what became of the other's circuit.

    After an edit along one direction also where they did not: A is then the parent.
    """
    if found.weights is None:
        return []
    lines, between = [found.weights.statement], found.of("target", "baseline")
    if between is None or not found.weights.changes:
        return lines
    differs = between.change.p < LEVEL
    if not (differs or found.weights.is_one_direction):
        return lines
    is_back = differs and not fell(between.change)
    more, less = found.sides[::-1] if is_back else found.sides
    if less.kept is None:
        return lines
    kept = f"{_count(less.kept)} neurons of {more.name}'s circuit"
    line = f"In {less.name} {kept} tell the two sides apart by at least half as much: "
    if less.kept.high < 0.5:
        effect = less.with_other
        acts = effect and effect.change.p < LEVEL and fell(effect.change)
        end = "it tells them apart no more, but refusals still fall without it"
        return [*lines, f"{line}{end if acts else 'the circuit is gone'}."]
    if less.kept.low > 0.5:
        end = (
            "the circuit is there, and bypassed" if differs else "the circuit is there"
        )
        return [*lines, f"{line}{end}."]
    return [*lines, f"{line}a part of the circuit is left."]


def _unusable(found: ModelComparison) -> str:
    """The unusable answers of two baselines, if there are any."""
    shares = [
        (side.name, group.baseline.invalid)
        for side in found.sides
        if (group := side.group("target"))
    ]
    if not any(one.successes for _, one in shares):
        return ""
    said = " and ".join(f"{name} {percent(one.value)}" for name, one in shares)
    return f"; INVALID {said}"


def _effects(own: ComparedModel, other: ComparedModel) -> list[str]:
    lines = []
    if (effect := own.with_own) and own.summary:
        said = conclude(own.summary).headline
        lines.append(_effect(own, "its own circuit", effect, said))
    if (effect := own.with_other) and (group := own.group("target")):
        is_other = is_of(other, own, effect)
        what = f"the circuit of {other.name}" if is_other else effect.arm.label
        broken = text_damage(group.baseline, group.arm(effect.arm.label))
        said = f"The text broke: {broken}. " if broken else ""
        lines.append(_effect(own, what, effect, said + _change(effect.change, group.n)))
    return lines


def _effect(side: ComparedModel, what: str, effect: Effect, said: str) -> str:
    applied = effect.arm.applied
    how = f"pinned ({applied})" if isinstance(applied, Pin) else f"at {applied:.15g}"
    return f"{side.name}, {what} {how}: {said} {_content(side, effect)}"


def _change(change: PairedChange, answers: int) -> str:
    if answers - change.n > answers / 10:
        how = "Inconclusive, too many answers are not English"
    elif change.ruined:
        ruined = counted(change.ruined, "refusal")
        how = f"{ruined} became unusable, and {change.lost} became answers"
    elif change.p < LEVEL:
        how = "Refusals fell" if fell(change) else "Refusals rose"
    elif change.before.successes < FEWEST:
        how = "Too few refusals to detect a fall"
    elif excludes_fall(change):
        how = "Refusals did not fall"
    else:
        how = "Inconclusive, refusals changed no more than by chance"
    return (
        f"{how}: {_count(change.before)} refused before, {_count(change.after)} after "
        f"({change.lost} lost, {change.gained} new, "
        f"{formatting.points_range(change.points.low, change.points.high)} points, "
        f"p {p_value(change.p)})."
    )


def _content(side: ComparedModel, effect: Effect) -> str:
    """How many answers differ, and whether they are still text."""
    group = side.group("target")
    assert group is not None
    arm = group.arm(effect.arm.label)
    text = f"{_count(effect.differing)} answers differ from the unsteered ones"
    if control := group.control("matched"):
        shares = [side.differing["target"][label].value for label in control.arms]
        text += f" (matched controls: {percent(fmean(shares))}"
        if effect.arm.role == "other":
            text += f", which refuse {percent(control.refused)}"
        text += ")"
    quality = f"{decimal(group.baseline.quality.value)} to {decimal(arm.quality.value)}"
    return f"{text}; quality {quality}, INVALID {percent(arm.invalid.value)}."


# --------------------------------------------------------------------------- the limits


def _bounds(found: ModelComparison) -> list[str]:
    """The limits of all this."""
    lines = [
        f"{side.name} did not answer all of its {counted(side.run.planned, 'prompt')}: "
        "the rest may change this."
        for side in found.sides
        if side.run and side.summary and side.run.status != "complete"
    ]
    runs = [side.run for side in found.sides if side.run]
    for rules in RULES if len(runs) > 1 else ():
        first, second = (run.facts.rules.get(rules, 1) for run in runs)
        if first != second:
            lines.append(
                f"Warning: the runs were written with versions {first} and {second} of "
                f"the {rules} rules, so their figures are not directly comparable: run "
                "the older one again."
            )
    lengths = [run.config.max_tokens for run in runs]
    if len(set(lengths)) > 1:
        lines.append(
            f"The answers were cut at {lengths[0]} and {lengths[1]} tokens: these "
            "rates are not directly comparable."
        )
    if found.prompts:
        lines.append(
            f"This holds for prompts like the {found.prompts} that both answered, "
            f"greedy decoding of {lengths[0]} tokens, and these weights. The labels "
            "are a heuristic; a high AUC does not mean that ablating changes an "
            "answer. The p-values are not adjusted for their number."
        )
    return lines


def _count(one: Proportion) -> str:
    return f"{one.successes} of {one.n}"
