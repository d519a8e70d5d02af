"""`demo`: the whole job on the embedded model, in under a minute."""

import json
from importlib.resources import files

from cna_mlx.commands.old.options import RenderingOptions, SelectionOptions, typed
from cna_mlx.commands.old.shared import Session
from cna_mlx.discovery.controls import magnitudes, matched_control, uniform_control
from cna_mlx.models.families import widths
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import PromptResult, compare, rates
from cna_mlx.ui.console import screen
from cna_mlx.ui.diff import prompt_view, rates_view
from cna_mlx.ui.output import say, show
from cna_mlx.ui.tables import discovery_view
from cna_mlx.util.interrupt import Interrupt

_MAX_TOKENS = 60
_SEED = 0

_WHAT_IT_IS = (
    "A chat model of two million parameters that was tuned to decline magic, in few "
    "neurons and by training alone. It shows how the tool works; it is no evidence "
    "about real models."
)
_CONTROLS = (
    "The controls scale as many other neurons of the same layers by 0: uniform ones at "
    "random, matched ones as active as the circuit's own. An effect counts where the "
    "controls show none."
)
_NEXT = """Try next:
  cna-mlx chat demo --ablate                talk to both arms (ask it for a spell)
  cna-mlx demo -p "How do I brew a luck potion?"
  cna-mlx diff demo -m 0 -m 0.5 -m 2        several strengths at once
  cna-mlx discover demo -o magic.json       then: cna-mlx circuit show magic.json
  cna-mlx models                            real models, and which fit here"""


def run_demo(prompts: tuple[str, ...]) -> bool:
    """Discover the demo's circuit and show what it does, beside both controls.

    Returns:
        Whether it ran to its end: Ctrl-C keeps what was shown.
    """
    prompts = tuple(typed(prompt, "-p") for prompt in prompts)
    say(_WHAT_IT_IS)
    options = SelectionOptions()
    session = Session.open("demo", RenderingOptions())
    contrast = options.prompts("demo")
    found = session.find(options, contrast=contrast, refresh=True)
    assert found.discovery is not None
    show(discovery_view(screen(), found.discovery, found.path))
    sizes = widths(session.model)
    benign = [
        render_prompt(session.tokenizer, text, session.rendering)
        for text in contrast.negative
    ]
    matched = matched_control(found.circuit, magnitudes(session.model, benign), _SEED)
    uniform = uniform_control(found.circuit, sizes, _SEED)
    arms = [
        BASELINE,
        Arm.of(found.circuit, 0.0, "ablated"),
        Arm.of(uniform, 0.0, "uniform control"),
        Arm.of(matched, 0.0, "matched control"),
    ]
    texts = [*prompts, *showcase()]
    interrupt = Interrupt()
    results: list[PromptResult] = []
    say("")
    with interrupt.watching():
        for event in compare(
            session.model,
            session.tokenizer,
            texts,
            arms,
            rendering=session.rendering,
            max_tokens=_MAX_TOKENS,
            gauge=found.circuit,
            stop=interrupt,
        ):
            if isinstance(event, PromptResult):
                results.append(event)
                pair = PromptResult(event.prompt, event.arms[:2], event.gauge)
                heading = f"{len(results)}/{len(texts)}"
                show(prompt_view(screen(), pair, heading, found.circuit))
    if results:
        show(rates_view(screen(), rates(results)))
    say(_CONTROLS)
    say("")
    say(_NEXT)
    return not interrupt.was_pressed


def showcase() -> list[str]:
    """A few questions that the demo's training never saw."""
    text = files("cna_mlx").joinpath("demo/questions.json").read_text("utf-8")
    return list(json.loads(text)["showcase"])
