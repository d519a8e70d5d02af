"""The samples of a run, prompt by prompt, as far as they are shown."""

from collections.abc import Sequence

from cna_mlx.analysis.metrics import main_arm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.report.content import ShownAnswer, ShownPrompt, TextLevel
from cna_mlx.report.excerpts import excerpt, shown_prompt
from cna_mlx.util.formatting import counted, decimal


def shown_prompts(
    run: RunRecord, samples: Sequence[Sample], level: TextLevel
) -> list[ShownPrompt]:
    """Every prompt with its answers in all arms.

    Args:
        run: which arms there are.
        samples: of its complete batches.
        level: how much of a text is shown.
    """
    arms = run.arms
    main = main_arm(arms)
    place = arms.index(main) if main else None
    size, seen = len(arms), run.facts.contamination
    batches = (samples[at : at + size] for at in range(0, len(samples), size))
    return [
        ShownPrompt(
            shown_prompt(batch[0].prompt, level),
            batch[0].id in (seen.get(batch[0].set) or ()),
            [_answer(arm, one, level) for arm, one in enumerate(batch)],
            place,
        )
        for batch in batches
    ]


def _answer(arm: int, one: Sample, level: TextLevel) -> ShownAnswer:
    facts = [counted(len(one.token_ids), "token"), f"quality {decimal(one.quality)}"]
    if level == "hidden":
        facts.insert(1, counted(len(one.text), "character"))
    if one.kl is not None and arm:
        facts.append(f"KL {decimal(one.kl)}")
    return ShownAnswer(one, arm, excerpt(one.text, level, one.span), facts)
