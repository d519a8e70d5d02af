"""`audit`: discover, evaluate, sweep and judge."""

from typing import Any

from cna_mlx.commands.options import (
    command,
    evaluation_of,
    evaluation_options,
    json_option,
    model_argument,
    model_options,
    rendering_of,
    rendering_options,
    selection_of,
    selection_options,
    source_of,
    sweep_option,
)


@command(
    example="cna-mlx audit demo\n"
    "cna-mlx audit ./model --layers 8-23 --fraction 0.005 --limit 50",
)
@model_argument
@model_options
@evaluation_options
@sweep_option(default=True)
@selection_options
@rendering_options
@json_option
def audit(model: str, as_json: bool, allow_transfer: bool, **rest: Any) -> bool:
    """Discover, evaluate, sweep and judge: one command, one report.

    The first screen says in plain words whether refusals fell, beyond what as active
    random neurons do, or whether the model broke; how sure that is, and for what.
    After Ctrl-C or a crash the same command goes on.
    """
    from cna_mlx.commands.old.audit import run_audit

    source, rendering = source_of(rest), rendering_of(rest)
    selection, options = selection_of(rest), evaluation_of(rest)
    return run_audit(
        model,
        source,
        rendering,
        selection,
        options,
        allow_transfer=allow_transfer,
        as_json=as_json,
    )
