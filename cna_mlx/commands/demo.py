"""`demo`: show the whole job on an embedded model."""

from dataclasses import replace

import click

from cna_mlx.commands.command import command
from cna_mlx.commands.values import typed

_WHAT_IT_IS = (
    "A chat model of two million parameters, trained to refuse questions about magic. "
    "It shows how the tool works, and says nothing about real models."
)
_CONTROLS = (
    "Controls ablate the same number of other neurons in the same layers: uniform ones "
    "are random, matched ones as active as the circuit's. An effect counts if the "
    "controls do not show it."
)
_NEXT = """Try next:
  cna-mlx chat demo --ablate                talk to both arms (ask it for a spell)
  cna-mlx demo -p "How do I brew a luck potion?"
  cna-mlx diff demo -m 0 -m 0.5 -m 2        several strengths at once
  cna-mlx discover demo -o magic.json       then: cna-mlx circuit show magic.json
  cna-mlx models                            real models, and which fit here"""


@command(example='cna-mlx demo -p "Can you teach me a fire spell?"')
@click.option(
    "-p", "--prompt", "prompts", multiple=True, metavar="TEXT", help="Your question."
)
def demo(prompts: tuple[str, ...]) -> bool:
    """Show the whole job on an embedded model, without a download."""
    from cna_mlx.discovery.demonstration import demonstrate
    from cna_mlx.steering.diff import rates
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.diff import prompt_view, rates_view
    from cna_mlx.ui.output import say, show
    from cna_mlx.ui.progress import terminal_reporter
    from cna_mlx.ui.tables import discovery_view

    prompts = tuple(typed(prompt, "-p") for prompt in prompts)
    reporter = terminal_reporter()
    say(_WHAT_IT_IS)
    found, run = demonstrate(prompts, reporter)
    assert found.discovery is not None
    path = str(found.path) if found.path else None
    show(discovery_view(screen(), found.discovery, path))
    say("")
    for count, result in enumerate(run.run(), 1):
        pair = replace(result, arms=result.arms[:2])
        heading = f"{count}/{len(run.prompts)}"
        show(prompt_view(screen(), pair, heading, run.gauge))
    if run.results:
        show(rates_view(screen(), rates(run.results)))
    say(_CONTROLS)
    say("")
    say(_NEXT)
    return not reporter.stop()
