"""What to do after a verdict, in one sentence and as commands."""

from cna_mlx.analysis.decision import Outcome, unjudged
from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.prompts import contrast_names
from cna_mlx.prompts.unasked import other_prompts
from cna_mlx.util.files import shell_word, without_home

_FOR_CERTAINTY = 19  # whole controls that show 1 in 20
_NEXT = {
    Outcome.FELL: "read the changed answers in the report; cna-mlx shrink finds how "
    "few of these neurons are enough.",
    Outcome.OPENING: "read the changed answers in the report; other layers or "
    "--rank influence may change more than the first word.",
    Outcome.NO_MORE: "cna-mlx search looks for a circuit that does more than its "
    "controls.",
    Outcome.HELD: "cna-mlx search tries about 50 other circuits; with --search, audit "
    "uses the one that it finds.",
    Outcome.BROKE: "scale less (-m 0.5), pin (-m mean), or take fewer neurons "
    "(--fraction).",
}
# What a search may mend.
_SEARCHED = (Outcome.NO_MORE, Outcome.HELD)


def advice(outcome: Outcome, summary: Summary, group: Group) -> str:
    """What a user does next; empty if there is nothing to judge by."""
    if not summary.is_whole:
        return "Next: repeat the command to answer the other prompts."
    return f"Next: {said}" if (said := _advice(outcome, summary, group)) else ""


def commands(said: str, summary: Summary) -> tuple[str, ...]:
    """The commands that an advice names, as they are typed.

    None for a circuit whose prompts are not built in: the commands need them.
    """
    run, own = summary.run, summary.run.config.main_circuit
    contrast = str(own and own.contrast and own.contrast.name)
    if contrast.partition(":")[0] not in contrast_names():
        return ()
    name, model = next(iter(run.config.circuits)), str(run.config.model.id)
    file = shell_word(without_home(run.circuit_file(name).absolute()))
    chosen = f" --contrast {contrast}"
    longer = " --minutes 60" if run.facts.discovery.search else ""
    known = {"search": chosen + longer, "shrink": f" --circuit {file}", "probe": chosen}
    return tuple(
        f"cna-mlx {one} {shell_word(model)}{options}"
        for one, options in known.items()
        if f"cna-mlx {one}" in said
    )


def others(summary: Summary) -> str:
    """The option that asks prompts of other sets than the run's."""
    config = summary.run.config
    return other_prompts(str(config.model.id), (str(one.name) for one in config.sets))


def _more_prompts(summary: Summary) -> str:
    whole = "without --limit, or " if summary.run.config.limit else ""
    return f"ask more prompts: {whole}{others(summary)}."


def _advice(outcome: Outcome, summary: Summary, group: Group) -> str:
    control = group.control("matched")
    if outcome is Outcome.TOO_FEW:
        refused = group.baseline.refused
        if 2 * refused.successes >= refused.n:
            return _more_prompts(summary)
        return (
            "ask prompts that this model refuses (--prompts FILE), or take another "
            "model. cna-mlx probe shows without refusals how well the neurons tell "
            "such prompts apart."
        )
    if outcome is Outcome.INCONCLUSIVE:
        if unjudged(group):
            return "ask in English: other languages get no label."
        return _more_prompts(summary)
    if outcome is Outcome.UNCONTROLLED and control and control.broken:
        return "scale less (-m 0.5), or take fewer neurons (--fraction)."
    if outcome is Outcome.UNCONTROLLED or (
        outcome is Outcome.MORE and control and control.whole < _FOR_CERTAINTY
    ):
        return f"compare with more controls: --controls {_FOR_CERTAINTY}."
    if outcome is Outcome.MORE:
        return (
            "read the changed answers in the report. To be surer take fewer neurons "
            "(cna-mlx shrink) or other layers: the controls then share fewer."
        )
    if summary.run.facts.discovery.search and outcome in _SEARCHED:
        return "a search found this circuit; a longer cna-mlx search tries more."
    return _NEXT.get(outcome, "")
