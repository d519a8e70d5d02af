"""Models as tables: those in the cache; known ones, and whether they fit."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cna_mlx.models.catalogue import Entry
from cna_mlx.models.hub.cached import CachedModel
from cna_mlx.models.memory.machine import Machine, gigabytes
from cna_mlx.models.memory.plan import QUANTIZATIONS, plan_of
from cna_mlx.ui.console import Screen
from cna_mlx.ui.lists import plain_table, table_or_lines

_BITS = tuple(QUANTIZATIONS.items())
# On a narrow screen these columns move below the names.
_WIDE_ONLY = ("layers", "neurons", "0.1%", "8-bit", "bf16", "KV/1k")


def cached_view(
    screen: Screen, found: Sequence[CachedModel], machine: Machine
) -> RenderableType:
    """The models in the Hub's cache, and whether each can be used here."""
    if not found:
        line = "no model in the Hub's cache yet: a model is fetched at its first use"
        return Text(f"{line}\n", style="dim")
    rows = [
        [one.name, gigabytes(one.bytes), _weights(one), _use(one, machine)]
        for one in found
    ]
    names = ("in the Hub's cache", "size", "weights", "here")
    reasons = [
        screen.safe(f"{one.name}: {one.unreadable}", "yellow")
        for one in found
        if one.is_complete and one.is_readable and one.unreadable
    ]
    return Group(table_or_lines(screen, names, rows), *reasons, Text())


def _weights(one: CachedModel) -> str:
    return f"{one.kind} {one.bits}-bit" if one.bits else one.kind


def _use(one: CachedModel, machine: Machine) -> str:
    if not one.is_complete:
        return "incomplete: its next use fetches the rest"
    if not one.is_readable:
        return "another architecture"
    if one.unreadable:
        return "cannot be loaded"
    return "whole" if one.bytes <= machine.usable else "streamed"


def catalogue_view(
    screen: Screen,
    entries: Sequence[Entry],
    machine: Machine,
    checks: dict[str, str] | None = None,
) -> RenderableType:
    """Known models, what they need, and whether they fit this machine."""
    table = _table(screen, entries, machine)
    is_narrow = not screen.fits(table)
    if is_narrow:
        table = _table(screen, entries, machine, _WIDE_ONLY)
    names: list[RenderableType] = []
    for entry in entries:
        names.append(Text(entry.name, style="bold"))
        lines = [*_experts(entry), *(_left_out(entry) if is_narrow else [])]
        names += [Text(f"  {line}") for line in lines]
        for kind, name in entry.ids.items():
            found = f"  {checks[name]}" if checks and name in checks else ""
            missing = "none known: mlx_lm.convert"
            names.append(
                Text(f"  {kind.replace('_', ' '):<18} {name or missing}{found}")
            )
    said = (
        f"this machine: {gigabytes(machine.total)}, {gigabytes(machine.usable)} of it "
        "usable; sizes are estimates. discover: memory of a discovery in addition to "
        "the weights; streamed: total memory with the weights on the disk; here: how "
        "the 4-bit model runs on this machine"
    )
    return Group(table, Text(said, style="dim"), Text(), *names)


def _table(
    screen: Screen,
    entries: Sequence[Entry],
    machine: Machine,
    left_out: Sequence[str] = (),
) -> Table:
    rows = [_catalogue_row(entry, machine) for entry in entries]
    titles = [title for title in rows[0] if title not in left_out]
    table = plain_table(screen, *titles)
    for column in table.columns[1:-1]:
        column.justify = "right"
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        table.add_row(*(row[title] for title in titles))
    return table


def _catalogue_row(entry: Entry, machine: Machine) -> dict[str, str]:
    """A model's cells by the titles of the columns."""
    plan = plan_of(entry, 4, machine)
    streamed = replace(plan, is_streamed=True)
    return {
        "model": entry.name,
        "layers": str(entry.shape["layers"]),
        "neurons": f"{entry.neurons:,}",
        "0.1%": str(round(entry.neurons / 1000)),
        **{name: gigabytes(entry.weights(bits)) for name, bits in _BITS},
        "KV/1k": gigabytes(1000 * entry.kv_per_token),
        "discover": gigabytes(plan.discovery),
        "streamed": gigabytes(streamed.needed),
        "here": plan.fit,
    }


def _experts(entry: Entry) -> list[str]:
    """What a token uses of a mixture of experts."""
    if (own := entry.sizes.experts) is None:
        return []
    active, total = (entry.shape[key] for key in ("active_b", "params_b"))
    return [
        f"a token uses {own.chosen} of {own.count} experts, {active} of {total} "
        "billion weights"
    ]


def _left_out(entry: Entry) -> list[str]:
    sizes = ", ".join(
        f"{gigabytes(entry.weights(bits))} {name}" for name, bits in _BITS
    )
    return [
        f"{entry.shape['layers']} layers, {entry.neurons:,} neurons",
        f"weights: {sizes}",
        f"KV cache: {entry.kv_per_token / 1000:.0f} kB per token and arm",
    ]
