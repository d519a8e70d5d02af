"""The samples of a run, prompt by prompt, as far as they are shown."""

from collections.abc import Collection, Sequence

from cna_mlx.analysis.metrics import main_arm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.report.content import ShownAnswer, ShownPrompt, TextLevel
from cna_mlx.report.excerpts import shown, shown_prompt
from cna_mlx.util.formatting import counted, decimal


def shown_prompts(
    run: RunRecord, samples: Sequence[Sample], level: TextLevel
) -> tuple[ShownPrompt, ...]:
    """Every prompt with its answers in all arms.

    Args:
        run: which arms there are.
        samples: of its whole batches.
        level: how much of a text is shown.
    """
    arms = run.arms
    main = main_arm(arms)
    place = arms.index(main) if main else None
    seen = run.facts.contamination
    size = len(arms)
    return tuple(
        _prompt(samples[at : at + size], level, place, seen.get(samples[at].set) or ())
        for at in range(0, len(samples), size)
    )


def _prompt(
    batch: Sequence[Sample], level: TextLevel, main: int | None, seen: Collection[str]
) -> ShownPrompt:
    first = batch[0]
    return ShownPrompt(
        first.number + 1,
        first.set,
        first.id,
        first.kind,
        first.category or None,
        shown_prompt(first.prompt, level),
        first.gauge,
        first.id in seen,
        tuple(_answer(place, one, level) for place, one in enumerate(batch)),
        main,
    )


def _answer(place: int, one: Sample, level: TextLevel) -> ShownAnswer:
    facts = [counted(len(one.token_ids), "token"), f"quality {decimal(one.quality)}"]
    if level == "hidden":
        facts.insert(1, counted(len(one.text), "character"))
    if one.kl is not None and place:
        facts.append(f"KL {decimal(one.kl)}")
    return ShownAnswer(
        place,
        one.arm,
        one.label,
        shown(one.text, level, one.span),
        tuple(facts),
        one.is_truncated,
    )
