"""`models`: list the models here and well-known ones, and what fits this machine."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cna_mlx.commands.command import command
from cna_mlx.commands.options import json_option

if TYPE_CHECKING:
    from cna_mlx.models.memory.plan import Plan


@command(example="cna-mlx models --check")
@click.option("--check", is_flag=True, help="Check which of them are on the Hub.")
@json_option
def models(check: bool, as_json: bool) -> None:
    """List the models in the Hub's cache, and known ones that fit this machine."""
    from cna_mlx.models import catalogue
    from cna_mlx.models.hub.cached import cached_models
    from cna_mlx.models.memory.machine import machine
    from cna_mlx.models.memory.plan import QUANTIZATIONS, plan_of
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.models import cached_view, catalogue_view
    from cna_mlx.ui.output import emit_json, show

    entries = [*catalogue.entries(), *catalogue.others()]
    checks: dict[str, str] = {}
    if check:
        for name in sorted({n for e in entries for n in e.ids.values() if n}):
            screen().note(f"asking the Hub for {name}")
            checks[name] = catalogue.check(name)
    have, here = machine(), cached_models()
    if not as_json:
        show(cached_view(screen(), here, have))
        show(catalogue_view(screen(), entries, have, checks or None))
        screen().note(catalogue.caveat())
        return
    emit_json(
        {
            "note": catalogue.caveat(),
            "memory_bytes": have.total,
            "usable_memory_bytes": have.usable,
            "cached": [
                {**asdict(one), "fits": one.is_loadable and one.bytes <= have.usable}
                for one in here
            ],
            "models": [
                {
                    "name": entry.name,
                    **entry.shape,
                    **entry.ids,
                    "neurons": entry.neurons,
                    "weights_4bit_bytes": entry.weights_4bit,
                    "kv_bytes_per_token": entry.kv_per_token,
                    "fits": entry.weights_4bit <= have.usable,
                    "plans": {
                        name: _plan_entry(plan_of(entry, bits, have))
                        for name, bits in QUANTIZATIONS.items()
                    },
                    "hub": {n: checks[n] for n in entry.ids.values() if n in checks},
                }
                for entry in entries
            ],
        }
    )


def _plan_entry(plan: "Plan") -> dict[str, object]:
    from cna_mlx.models.memory.forecast import kept_bytes

    return {
        "weights_bytes": plan.weights,
        "kv_bytes_per_token": plan.shape.kv_per_token,
        "discovery_bytes": plan.discovery,
        "kept_bytes": kept_bytes(plan.shape),
        "influence_bytes": plan.influence,
        "causal_bytes": plan.causal,
        "streamed_discovery_bytes": plan.streamed,
        "fit": plan.fit,
    }
