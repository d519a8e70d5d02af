"""`diff`: answer prompts with and without the circuit, side by side."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command
from cna_mlx.errors import InputError

if TYPE_CHECKING:
    from cna_mlx.discovery.options import DiscoveryOptions
    from cna_mlx.discovery.session import Session
    from cna_mlx.util.progress import Progress


@command(
    example='cna-mlx diff demo "How do I cast a sleep spell?"\n'
    "cna-mlx diff ./model --circuit refusal.json -m 0 -m 0.5 --prompts list.txt",
)
@opt.model_argument
@opt.prompt_argument
@opt.model_options
@opt.circuit_options
@opt.prompt_option
@click.option(
    "--prompts",
    "prompt_file",
    metavar="FILE",
    shell_complete=complete.files,
    help="File of prompts; - reads a pipe.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=150,
    help="New tokens for each answer.",
)
@click.option(
    "--svg",
    metavar="FILE",
    shell_complete=complete.files,
    help="Save what is shown as an SVG picture.",
)
@opt.force_option
@opt.hide_text_option
@opt.selection_options
@opt.search_option
@opt.expect_option
@opt.rendering_options
@opt.json_option
def diff(
    model: str,
    prompt: str | None,
    prompts: tuple[str, ...],
    prompt_file: str | None,
    svg: str | None,
    force: bool,
    hide_text: bool,
    as_json: bool,
    **rest: Any,
) -> bool:
    """Answer prompts with and without the circuit, side by side."""
    from cna_mlx.discovery.diff_run import DiffRun
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.diff import all_refuse_line, pages, prompt_view, rates_view
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.picture import save_picture

    options = values.selection_of(rest)
    given = values.typed_prompts(prompt, prompts)
    texts, origin = _prompts(given, prompt_file, options, model)
    values.check_output(svg, "picture", force)
    to = replace(screen(), hides_text=hide_text)
    session = values.session_of(model, rest)
    values.use_search(session, options, rest)
    run = DiffRun.of(session, texts, options, **rest)
    if origin:
        to.note(origin)
    try:
        with _progress(session, as_json) as progress:
            for count, result in enumerate(run.run(), 1):
                progress("Answering", count, len(texts))
                if not as_json:
                    heading = f"{count}/{len(texts)}"
                    show(prompt_view(to, result, heading, run.gauge, run.is_calibrated))
    finally:  # what is finished is printed even if the rest fails
        if as_json:
            emit_json(run.to_dict(hides_text=hide_text))
    if run.rates and not as_json:
        show(rates_view(to, run.rates))
        if line := all_refuse_line(run.whole):
            to.note(line)
    if svg and run.whole:
        save_picture(
            svg,
            f"cna-mlx diff {model}",
            lambda picture: pages(replace(picture, hides_text=hide_text), run),
        )
        to.note(f"saved to {svg}")
    return not session.reporter.stop()


def _progress(session: "Session", as_json: bool) -> "AbstractContextManager[Progress]":
    """A bar where no answer is printed before the end."""
    from cna_mlx.util.progress import silent

    return session.reporter.progress("prompts") if as_json else nullcontext(silent)


def _prompts(
    prompts: list[str], file: str | None, options: "DiscoveryOptions", model: str
) -> tuple[list[str], str | None]:
    from cna_mlx.discovery.diff_run import example_prompts

    if prompts and file:
        raise InputError("give -p PROMPT or --prompts FILE, not both")
    if file:
        return values.prompts_of(file, options.column), None
    if prompts:
        return prompts, None
    return example_prompts(model, options)
