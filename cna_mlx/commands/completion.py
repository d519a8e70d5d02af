"""Complete names in the shell: contrasts, prompt sets, runs, models, files.

Called while a line is typed: nothing heavy is imported, and nothing may fail aloud.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from cna_mlx.errors import CnaError

Names = Callable[[], Iterable[str]]
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completing(*sources: Names, path: str = "file") -> Complete:
    """Complete the names of the sources, then files (or directories: ``dir``)."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found: list[str] = []
        for names in sources:
            with suppress(CnaError, OSError):
                found += [one for one in names() if one.startswith(incomplete)]
        items = [CompletionItem(one) for one in dict.fromkeys(found)]
        return [*items, CompletionItem(incomplete, type=path)] if path else items

    return complete


def _contrasts() -> Iterable[str]:
    from cna_mlx.prompts import contrast_names

    return contrast_names()


def _sets() -> Iterable[str]:
    from cna_mlx.prompts.benchmarks import NAMES

    return (*NAMES, *_contrasts())


def _models() -> Iterable[str]:
    from cna_mlx.models.hub.cached import cached_names

    return ("demo", "demo-base", *cached_names())


def _runs() -> Iterable[str]:
    from cna_mlx.evaluation.runs import runs_directory

    place = runs_directory()
    children = place.iterdir() if place.is_dir() else ()
    return sorted(one.name for one in children if one.is_dir())


contrasts = _completing(_contrasts, path="")
prompt_sets = _completing(_sets, path="")
prompts = _completing(_sets)
models = _completing(_models, path="dir")
runs = _completing(_runs, path="dir")
models_and_runs = _completing(_models, _runs, path="dir")
runs_and_files = _completing(_runs)
files = _completing()
directories = _completing(path="dir")
