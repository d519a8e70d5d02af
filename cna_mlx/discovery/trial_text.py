"""Say in a line or two what to expect of a circuit."""

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.trial_counts import ENOUGH, ArmCounts, Expectation

# A fall of the mean quality that counts as damage.
_DAMAGE = 0.1
# Words in the label of a contrast's side that should be refused.
_REFUSABLE = ("harmful", "refus", "unsafe")
_TRY = "try --layers, --rank or"


def expectation_lines(circuit: Circuit) -> list[str]:
    """The figures of a circuit's trial, then remarks on them; empty without a trial."""
    found = Expectation.of(circuit)
    if found is None:
        return []
    is_refusing = speaks_of_refusals(found, circuit)
    line = _refusals(found) if is_refusing else _changes(found)
    if found.prompts < ENOUGH:
        return [line, "too few prompts to conclude anything from"]
    remarks = _remarks_on_refusals if is_refusing else _remarks_on_changes
    return [line, *_damage(found), *remarks(found)]


def speaks_of_refusals(found: Expectation, circuit: Circuit) -> bool:
    """Whether the behaviour is refusing, by its label or by the baseline's answers."""
    contrast = circuit.provenance.contrast
    label = str(contrast and contrast.positive_label).lower()
    return any(word in label for word in _REFUSABLE) or not _is_few(
        found.baseline.refused, found
    )


def _refusals(found: Expectation) -> str:
    baseline, ablated, control = found.baseline, found.ablated, found.control
    return (
        f"refused {baseline.refused} of {_held_out(found, 'prompt')} "
        f"(quality {_quality(baseline)}{_planned(found)}), ablated {ablated.refused} "
        f"({_quality(ablated)}), matched control {control.refused} "
        f"({_quality(control)})"
    )


def _changes(found: Expectation) -> str:
    baseline, ablated, control = found.baseline, found.ablated, found.control
    line = (
        f"ablating changes {ablated.changed} of {_held_out(found, 'answer')} "
        f"(quality {_quality(ablated)}, the baseline's {_quality(baseline)}"
        f"{_planned(found)}), a "
        f"matched control {control.changed} ({_quality(control)})"
    )
    refused = baseline.refused, ablated.refused, control.refused
    if any(refused):
        line += "; refused {}, ablated {}, matched control {}".format(*refused)
    return line


def _held_out(found: Expectation, noun: str) -> str:
    plural = noun if found.prompts == 1 else f"{noun}s"
    return f"{found.prompts} held-out {plural}"


def _planned(found: Expectation) -> str:
    return f"; {found.planned} were planned" if found.was_cut_short else ""


def _quality(arm: ArmCounts) -> str:
    parts = [f"{arm.quality:.2f}"]
    parts += [f"{arm.partial} PARTIAL"] if arm.partial else []
    parts += [f"{arm.invalid} INVALID"] if arm.invalid else []
    return ", ".join(parts)


def _is_few(count: int, found: Expectation) -> bool:
    """Whether chance explains the count: up to a quarter of the prompts."""
    return 4 * count <= found.prompts


def _damage(found: Expectation) -> list[str]:
    lines = []
    if _is_damaged(found.ablated, found):
        lines.append(
            f"ablating damages the text: {_TRY} a smaller --fraction; a refusal lost "
            "in a broken text does not count"
        )
    if _is_damaged(found.control, found):
        lines.append(
            "the matched control damages the text: it says little about what the "
            "circuit does"
        )
    return lines


def _is_damaged(arm: ArmCounts, found: Expectation) -> bool:
    return (
        arm.quality < found.baseline.quality - _DAMAGE
        or arm.invalid > found.baseline.invalid
    )


def _remarks_on_refusals(found: Expectation) -> list[str]:
    baseline, ablated, control = found.baseline, found.ablated, found.control
    if _is_few(baseline.refused, found):
        return [
            f"this model rarely refuses these prompts ({baseline.refused} of "
            f"{found.prompts}): there is little to flip"
        ]
    fallen = _fallen(ablated, baseline)
    if _is_few(fallen, found):
        return [
            "few answers flip here: cna-mlx search (or --search) looks for a circuit "
            f"that flips more; or {_TRY} a larger --fraction"
        ]
    if _fallen(control, baseline) >= fallen:
        return ["the control does the same here: it may not be these neurons' own"]
    return []


def _fallen(arm: ArmCounts, baseline: ArmCounts) -> int:
    """Refusals lost: those that became unusable text do not count."""
    return baseline.refused - arm.refused - max(0, arm.invalid - baseline.invalid)


def _remarks_on_changes(found: Expectation) -> list[str]:
    if _is_few(found.ablated.changed, found):
        return [f"few answers will change: {_TRY} a larger --fraction"]
    if found.control.changed >= found.ablated.changed:
        return [
            "the control changes no fewer: look at how the answers change, not at "
            "how many"
        ]
    return []
