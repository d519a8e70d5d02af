"""`diff`: the baseline against each multiplier, side by side."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cna_mlx.chat import arm_entry
from cna_mlx.circuit import Circuit
from cna_mlx.commands.old.options import (
    ModelOptions,
    RenderingOptions,
    SelectionOptions,
    typed,
)
from cna_mlx.commands.old.shared import (
    Session,
    check_circuit_files,
    check_writable,
    circuit_entry,
)
from cna_mlx.errors import InputError
from cna_mlx.prompts import load_contrast, read_prompts
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import PromptResult, compare, rates
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.steering.interventions import check_multiplier
from cna_mlx.ui.console import Screen, screen
from cna_mlx.ui.diff import prompt_view, rates_view
from cna_mlx.ui.output import emit_json, show
from cna_mlx.ui.picture import save_picture
from cna_mlx.util.interrupt import Interrupt


def run_diff(
    model: str,
    source: ModelOptions,
    rendering: RenderingOptions,
    options: SelectionOptions,
    *,
    circuits: Sequence[str],
    multipliers: Sequence[float],
    prompts: Sequence[str],
    prompt_file: str | None,
    max_tokens: int,
    allow_transfer: bool,
    as_json: bool,
    svg: str | None,
    hide_text: bool,
) -> bool:
    """Answer prompts in every arm and show what changes.

    Returns:
        Whether every prompt was answered: Ctrl-C ends early and keeps what is there.
    """
    multipliers = [check_multiplier(value) for value in multipliers]
    texts, origin = _prompts(prompts, prompt_file, options, model)
    check_circuit_files(circuits)
    check_writable(svg)
    session = Session.open(model, rendering, allow_transfer, source)
    arms = [BASELINE, *session.steered_arms(options, circuits, multipliers)]
    gauge = _gauge_of(arms)
    calibrated = gauge is not None and session.is_calibrated(gauge)
    if origin:
        screen().note(origin)
    interrupt = Interrupt()
    to = replace(screen(), hides_text=hide_text)
    results: list[PromptResult] = []

    def emit() -> None:
        if as_json:
            emit_json(_entry(session, arms, results, max_tokens, hide_text))

    with _kept(emit), interrupt.watching():
        for event in compare(
            session.model,
            session.tokenizer,
            texts,
            arms,
            rendering=session.rendering,
            max_tokens=max_tokens,
            gauge=gauge,
            stop=interrupt,
        ):
            if not isinstance(event, PromptResult):
                continue
            results.append(event)
            if not as_json:
                heading = f"{len(results)}/{len(texts)}"
                show(prompt_view(to, event, heading, gauge, calibrated))
    whole = _whole(results)
    if whole and not as_json:
        show(rates_view(to, rates(whole)))
        if refused := sum(result.is_refused_by_all for result in whole):
            to.note(_all_refuse(refused, len(whole)))
    if svg and whole:

        def draw(picture: Screen) -> list[Any]:
            own = replace(picture, hides_text=hide_text)
            return _pages(own, whole, gauge, calibrated)

        save_picture(svg, f"cna-mlx diff {model}", draw)
        to.note(f"drawn to {svg}")
    return not interrupt.was_pressed


def _all_refuse(refused: int, total: int) -> str:
    return (
        f"{refused} of {total} refused in every arm, as many prompts are on most "
        "models: try other strengths (-m), a larger --fraction, other --layers or "
        "another --rank"
    )


@contextmanager
def _kept(emit: Callable[[], None]) -> Iterator[None]:
    """What was finished is told at the end, also where the rest failed."""
    try:
        yield
    finally:
        emit()


def _entry(
    session: Session,
    arms: Sequence[Arm],
    results: list[PromptResult],
    max_tokens: int,
    hides_text: bool,
) -> dict[str, Any]:
    whole = _whole(results)
    return {
        "model": session.name,
        "rendering": session.rendering.to_json(),
        "max_tokens": max_tokens,
        "circuits": {
            arm.label: circuit_entry(circuit, session.files.get(id(circuit)))
            for arm in arms
            for circuit, _ in arm.steering
            if isinstance(circuit, Circuit)
        },
        "results": [result_entry(result, hides_text) for result in results],
        "rates": [
            {
                "arm": rate.arm.label,
                "prompts": rate.total,
                **{verdict.lower(): n for verdict, n in rate.counts.items()},
                "quality": rate.quality,
                "truncated": rate.truncated,
            }
            for rate in (rates(whole) if whole else [])
        ],
    }


def _gauge_of(arms: Sequence[Arm]) -> Circuit | None:
    """The circuit to gauge prompts along: the first that can."""
    circuits = (circuit for arm in arms for circuit, _ in arm.steering)
    able = (c for c in circuits if isinstance(c, Circuit) and can_gauge(c))
    return next(able, None)


def _pages(
    screen: Screen,
    results: Sequence[PromptResult],
    gauge: Circuit | None,
    is_calibrated: bool,
) -> list[Any]:
    count = len(results)
    pages: list[Any] = [
        prompt_view(screen, result, f"{number}/{count}", gauge, is_calibrated)
        for number, result in enumerate(results, 1)
    ]
    return [*pages, rates_view(screen, rates(results))]


def _whole(results: Sequence[PromptResult]) -> list[PromptResult]:
    """The prompts that were answered to the end: only they can be counted."""
    return [
        result
        for result in results
        if all(arm.finish != "interrupted" for arm in result.arms)
    ]


def result_entry(result: PromptResult, hides_text: bool = False) -> dict[str, Any]:
    """One prompt's answers as the JSON has them."""
    arms = [arm_entry(arm, hides_text=hides_text) for arm in result.arms]
    return {"prompt": result.prompt, "gauge": result.gauge, "arms": arms}


def _prompts(
    prompts: Sequence[str], file: str | None, options: SelectionOptions, model: str
) -> tuple[list[str], str | None]:
    if prompts and file:
        raise InputError("give -p PROMPT or --prompts FILE, not both")
    if file:
        return read_prompts(file, options.column), None
    if prompts:
        return [typed(prompt, "-p") for prompt in prompts], None
    contrast = options.prompts(model)
    if contrast.name == "refusal":
        held_out = load_contrast("refusal-small")
        texts = [*held_out.positive[:3], held_out.negative[0]]
        return texts, "no prompts given: four of refusal-small (-p, --prompts)"
    texts = [*contrast.positive[:2], *contrast.negative[:2]]
    return texts, (
        f"no prompts given: four of {contrast.name}, which the discovery may have seen "
        "(-p, --prompts)"
    )
