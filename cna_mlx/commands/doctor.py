"""`doctor`: check this machine and a model on it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command
from cna_mlx.errors import CnaError

if TYPE_CHECKING:
    from cna_mlx.diagnostics import Section


@command(example="cna-mlx doctor\ncna-mlx doctor demo --json")
@click.argument("model", required=False, shell_complete=complete.models)
@click.option(
    "--clear-cache", is_flag=True, help="Remove the cached circuits; do nothing else."
)
@opt.model_options
@opt.json_option
def doctor(model: str | None, clear_cache: bool, as_json: bool, **rest: Any) -> None:
    """Check this machine, and a MODEL on it, for an issue report.

    Versions, memory, disk, the Hub, the terminal; then the device's arithmetic, the
    stored figures of the embedded models, the laws of steering, and the bandwidth.
    Shows no user name, home directory or token. Exit code 1 if a check failed.
    """
    from cna_mlx.diagnostics.doctor import Findings
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.doctor import item_lines, summary_line, title_line
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.util.formatting import counted

    if clear_cache:
        why = "--clear-cache is for all models: leave MODEL out"
        values.require(model is None, why)
        _clear_cache(as_json)
        return
    findings = Findings()
    is_complete = False
    try:
        for section in _sections(model, rest):
            if as_json:
                screen().note(f"checking: {section.title}")
            else:
                show(title_line(section.title))
            for item in findings.take(section):
                if not as_json:
                    show(item_lines(screen(), item))
        is_complete = True
    finally:
        if as_json:
            emit_json({"complete": is_complete, **findings.to_dict()})
    if not as_json:
        show(summary_line(findings.checks, findings.seconds))
    if failed := findings.failed:
        what = counted(len(failed), "check")
        raise CnaError(f"{what} failed: {', '.join(failed)}")


def _sections(model: str | None, rest: dict[str, Any]) -> Iterator["Section"]:
    from cna_mlx.diagnostics import Section
    from cna_mlx.diagnostics.doctor import device_sections, machine_sections
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.doctor import terminal_items

    yield from machine_sections(offline=rest["offline"])
    yield Section("terminal", terminal_items(screen()))
    yield from device_sections(values.session_of(model, rest) if model else None)


def _clear_cache(as_json: bool) -> None:
    from cna_mlx.diagnostics import Fact
    from cna_mlx.diagnostics.doctor import own_secrets
    from cna_mlx.diagnostics.results import anonymous
    from cna_mlx.discovery.cache import Store
    from cna_mlx.models.memory.machine import gigabytes
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json
    from cna_mlx.util.formatting import counted

    store = Store()
    count, size = store.clear()
    if as_json:
        emit_json({"removed_files": count, "removed_bytes": size})
        return
    much = f"{size:,} bytes" if size < 1_000_000 else gigabytes(size)
    text = f"removed {counted(count, 'file')}, {much}, from {store.directory}"
    (shown,) = anonymous([Fact("removed", text)], own_secrets())
    assert isinstance(shown, Fact)
    screen().out.print(screen().safe(str(shown.value)), soft_wrap=True)
