"""`verify`: a few samples of a run generated again, here."""

from typing import Any

from cna_mlx.commands.old.options import ModelOptions, RenderingOptions
from cna_mlx.commands.old.shared import Session
from cna_mlx.errors import ModelError
from cna_mlx.evaluation.run_config import EnvironmentEntry
from cna_mlx.evaluation.runs import Run, find_run
from cna_mlx.evaluation.verify import Repeated, verify
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.ui.console import screen
from cna_mlx.ui.evaluation import repeated_view
from cna_mlx.ui.output import emit_json, show
from cna_mlx.ui.progress import progress_bar
from cna_mlx.util.environment import environment
from cna_mlx.util.interrupt import Interrupt


def run_verify(
    name: str,
    *,
    model: str | None,
    offline: bool,
    count: int,
    as_json: bool,
) -> bool:
    """Answer a few of a run's prompts again and say how many answers agree.

    Returns:
        Whether all of them were tried: Ctrl-C keeps what was compared.
    """
    run = find_run(name)
    session = _session(run, model, offline)
    interrupt = Interrupt()
    found: list[Repeated] = []
    done = 0
    with progress_bar("prompts") as progress, interrupt.watching():
        for repeated in verify(
            run, session.model, session.tokenizer, count=count, stop=interrupt
        ):
            found += repeated
            done += 1
            progress("Answering again", done, count)
    around = environment()
    if as_json:
        emit_json(_entry(run, found, done, around))
    else:
        show(
            repeated_view(
                screen(), run, found, done, EnvironmentEntry.from_json(around)
            )
        )
    return not interrupt.was_pressed


def _session(run: Run, model: str | None, offline: bool) -> Session:
    """The run's model, the one that is there or the one that was named.

    Raises:
        ModelError: it is of other weights.
    """
    own = run.config.model
    revision = own.revision if model is None else None
    name = model or str(own.id)
    source = ModelOptions(revision, offline)
    session = Session.open(name, RenderingOptions(), source=source)
    if fingerprint(session.model) != own.fingerprint:
        raise ModelError(
            f"{name} has other weights than the run's model ({own.id}, "
            f"{own.quantization}); name the right one with --model"
        )
    return session


def _entry(
    run: Run, found: list[Repeated], done: int, around: dict[str, Any]
) -> dict[str, Any]:
    return {
        "run": str(run.directory),
        "prompts": done,
        "samples": len(found),
        "same_tokens": sum(one.is_same for one in found),
        "same_label": sum(one.has_same_label for one in found),
        "results": [one.to_json() for one in found],
        "environment": around,
        "run_environment": run.facts.to_json().get("environment"),
    }
