"""Answer prompts in groups: every arm of each prompt is a row of one batch."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx

from cna_mlx.discovery.refusing_openings import log_odds_after
from cna_mlx.evaluation.asked import Evaluation, Pending
from cna_mlx.evaluation.follow_up import (
    Caches,
    Stop,
    Unfinished,
    continued,
    go_on,
    in_order,
    look_at_words,
)
from cna_mlx.evaluation.further import LOOKED
from cna_mlx.evaluation.kl import KL_TOKENS, kl_after_prefill
from cna_mlx.evaluation.samples import Sample
from cna_mlx.steering.arm_cache import can_extract
from cna_mlx.steering.decoding import Parks
from cna_mlx.steering.events import Answer, Gauged, Token
from cna_mlx.steering.first_tokens import first_tokens_after
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.prefill import copy_of, take_rows
from cna_mlx.util.progress import never

#: So few rows of a batch may still answer when the others have ended: these wait for
#: those of the group's other batches.
WAITING = 0.25


def answer_group(
    evaluation: Evaluation,
    numbers: Sequence[int],
    stop: Callable[[], bool] = never,
) -> list[list[Sample]] | None:
    """Answer these prompts in every arm, and measure the answers.

    Returns the samples of each prompt, in the order of the arms; None if stopped.
    """
    if not numbers:
        return []
    started, stop = time.perf_counter(), Stop(stop)
    prompts = evaluation.prompts
    asked = [Pending(n, evaluation.ids(prompts[n][1])) for n in numbers]
    caches: Caches = {}  # of rows that go on
    if not (
        _answer(evaluation, asked, caches, stop)
        and go_on(evaluation, asked, caches, stop)
        and look_at_words(evaluation, asked, stop)
    ):
        return None
    seconds = round((time.perf_counter() - started) / len(asked), 3)
    return [
        [replace(sample, seconds=seconds) for sample in one.samples] for one in asked
    ]


def begin_answers(
    evaluation: Evaluation,
    asked: Sequence[Pending],
    *,
    max_tokens: int,
    caches: Caches | None = None,
    parks: Parks | None = None,
    prefilled: Callable[[list[Any]], None] | None = None,
    stop: Callable[[], bool] = never,
) -> Iterator[Gauged | Token | Answer]:
    """Answer prompts in one batch: the arms of the first, those of the second, ..."""
    rows = [(one, arm) for one in asked for arm in evaluation.arms]
    return generate_arms(
        evaluation.model,
        evaluation.tokenizer,
        [[one.ids for one, _ in rows]],
        [one.named(arm) for one, arm in rows],
        max_tokens=max_tokens,
        caches=caches,
        gauge=evaluation.gauge,
        leaves=True,
        parks=parks,
        prefilled=prefilled,
        header=evaluation.beginning,
        stop=stop,
    )


def _answer(
    evaluation: Evaluation, asked: Sequence[Pending], caches: Caches, stop: Stop
) -> bool:
    """The answers of all arms with their KL; False if stopped."""
    size = evaluation.size if evaluation.rows else len(asked)
    batches = [asked[at : at + size] for at in range(0, len(asked), size)]
    waiting: list[Unfinished] = []
    for batch in batches:
        left = _batch(evaluation, batch, caches, stop, parks=len(batches) > 1)
        if left is None:
            return False
        waiting += left
    found = continued(evaluation, waiting, stop, caches, keeps=evaluation.extends)
    if found is None:
        return False
    for growing, answer in zip(waiting, found, strict=True):
        growing.prompt.answers[growing.row] = answer
    for one in asked:
        named = evaluation.prompts[one.number]
        one.samples = [
            Sample.of(
                one.number,
                *named,
                arm.label,
                answer,
                gauge=one.gauge,
                kl=one.kl and one.kl[row],
                opening=None if row else one.opening,
                first=one.first.get(row),
            )
            for row, (arm, answer) in enumerate(
                zip(evaluation.arms, one.answers, strict=True)
            )
        ]
    return True


def _batch(
    evaluation: Evaluation,
    asked: Sequence[Pending],
    caches: Caches,
    stop: Stop,
    *,
    parks: bool,
) -> list[Unfinished] | None:
    """Answer prompts in one batch; return the rows that wait, or None if stopped.

    Args:
        parks: a few rows wait where the others have ended.
    """
    rows = [(one, row) for one in asked for row in range(len(evaluation.arms))]
    fed: list[list[Any]] = []  # KV caches of the prompts
    few = int(WAITING * len(rows))
    parks = parks and can_extract(evaluation.model)
    events = list(
        begin_answers(
            evaluation,
            asked,
            max_tokens=evaluation.max_tokens,
            caches=caches if parks or evaluation.extends else None,
            # the KL needs so much of the answers
            parks=(lambda left, tokens: left <= few and tokens >= KL_TOKENS)
            if parks
            else None,
            prefilled=fed.append if evaluation.measures else None,
            stop=stop,
        )
    )
    answers = in_order(events, len(rows), stop)
    if answers is None:
        return None
    gauges = next((one.arms for one in events if isinstance(one, Gauged)), None)
    for row, ((one, arm), answer) in enumerate(zip(rows, answers, strict=True)):
        one.answers.append(answer)
        if gauges and not arm:
            one.gauge = gauges[row]
    waiting = []
    for one, arm in rows:
        if one.answers[arm].finish == "interrupted":
            begun = one.answers[arm].token_ids
            more = evaluation.max_tokens - len(begun)
            waiting.append(Unfinished(one, arm, begun, more))
        elif not evaluation.extends:
            caches.pop(one.named(evaluation.arms[arm]).label, None)
    return waiting if _measure(evaluation, asked, fed, stop) else None


def _measure(
    evaluation: Evaluation, asked: Sequence[Pending], fed: list[list[Any]], stop: Stop
) -> bool:
    """Add what the prompts' caches tell: the openings' log-odds, the first tokens and
    the KL; False if stopped.
    """
    model, arms = evaluation.model, evaluation.arms

    def of_rows(rows: Sequence[int], prompts: int) -> list[Any]:
        """Copies of the caches of these rows of the first prompts."""
        own = [copy_of(layer) for layer in fed[0]]
        places = [n * len(arms) + row for n in range(prompts) for row in rows]
        for layer in own:
            take_rows(layer, mx.array(places))
        return own

    last = [one.ids[-1] for one in asked]
    if evaluation.openings:
        own = of_rows([0], len(asked))
        found = log_odds_after(model, own, last, evaluation.openings)
        for one, odds in zip(asked, found, strict=True):
            one.opening = odds
    looked = [one for one in asked if one.number < LOOKED]
    if looked and evaluation.main is not None:
        rows = 0, evaluation.main
        own = of_rows(rows, len(looked))
        shown = [arms[row] for row in rows]
        ends = last[: len(looked)]
        tokens = first_tokens_after(model, evaluation.tokenizer, own, ends, shown)
        for one, first in zip(looked, tokens, strict=True):
            one.first = {
                row: tuple(
                    (token.text, token.probabilities[at]) for token in first.tokens
                )
                for at, row in enumerate(rows)
            }
    if not evaluation.kl_tokens:
        return True
    kls = kl_after_prefill(
        model,
        fed.pop(),  # they are large
        last,
        [one.answers[0].token_ids for one in asked],
        arms,
        tokens=evaluation.kl_tokens,
        stop=stop,
    )
    for one, kl in zip(asked, kls or [], strict=kls is not None):
        one.kl = kl
    return kls is not None
