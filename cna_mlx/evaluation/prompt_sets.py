"""Load the prompt sets of an evaluation, before the model."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cna_mlx.discovery.options import defaults_for
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.prompts.benchmarks import Benchmark, load_benchmark

#: Names or files, as for :func:`load_benchmark`, or sets that are loaded.
PromptSets = str | Benchmark | Sequence[str | Benchmark]


def load_sets(
    session: Session,
    prompts: PromptSets,
    limit: int | None = None,
    column: str | None = None,
) -> list[Benchmark]:
    """Load prompt sets, each under a unique name; fetch those that are not cached.

    Uses the default sets of the session's model if ``prompts`` is empty, and ``limit``
    prompts of each set, spread evenly. ``column`` is that of files which do not name
    their own.

    Raises:
        InputError: a file or a name that cannot be used, or the same set twice.
        HubError, ModelError: a set cannot be fetched.
    """
    given = [prompts] if isinstance(prompts, str | Benchmark) else list(prompts)
    reporter = session.reporter
    with reporter.progress("bytes") as progress:
        found = [
            load_benchmark(
                one,
                column=column,
                offline=session.source.offline,
                progress=progress,
                reporter=reporter,
            )
            if isinstance(one, str)
            else one
            for one in given or defaults_for(session.name).prompts
        ]
    for number, one in enumerate(found):
        if any(one.sha256 == other.sha256 for other in found[:number]):
            raise InputError(f"{one.name}: this prompt set is given twice")
    return [one.limited(limit) for one in _named_apart(found)]


def _named_apart(sets: Iterable[Benchmark]) -> list[Benchmark]:
    """Number the sets that share a name, e.g. files of two directories."""
    taken: set[str] = set()
    named = []
    for one in sets:
        name, number = one.name, 1
        while name in taken:
            number += 1
            name = f"{one.name}-{number}"
        taken.add(name)
        named.append(replace(one, name=name))
    return named
