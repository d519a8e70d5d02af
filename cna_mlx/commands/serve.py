"""`serve`: answer requests over HTTP, as OpenAI's API does."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command

if TYPE_CHECKING:
    from socket import socket


@command(
    example="cna-mlx serve demo\n"
    "cna-mlx serve ./model --circuit refusal.json@0.5 --port 9000\n"
    "cna-mlx serve ./model --circuit a.json --circuit b.json\n"
    "CNA_MLX_API_KEY=secret cna-mlx serve ./model --host 0.0.0.0",
)
@opt.model_argument
@opt.model_options
@click.option("--host", default="127.0.0.1", help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    help="Port to listen at; 0 takes a free one.",
)
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="CNA_MLX_API_KEY",
    help="Key that clients must send; needed for any address but this machine's own. "
    "CNA_MLX_API_KEY sets it without showing it in lists of processes.",
)
@click.option(
    "--rows",
    type=click.IntRange(1, 1024),
    default=64,
    help="Answers that run at once; more wait.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    default=1024,
    help="Answers that run or wait; more are refused (429).",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=512,
    help="New tokens of an answer, where a request names none.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    metavar="SECONDS",
    help="Longest time of a request.",
)
@click.option(
    "--log",
    metavar="FILE",
    shell_complete=complete.files,
    help="Append every request and its answers to this file (JSON lines).",
)
@opt.circuit_options
@opt.selection_options
@opt.search_option
@opt.expect_option
@opt.rendering_options
def serve(
    model: str,
    host: str,
    port: int,
    api_key: str | None,
    rows: int,
    queue: int,
    max_tokens: int,
    timeout: float,
    log: str | None,
    **rest: Any,
) -> bool:
    """Serve a model and its steered arms to other programs (OpenAI's API).

    MODEL answers as it is, MODEL@0 with its circuit ablated, MODEL@0.5 with it at half
    strength, and so on; requests of different strengths run in one batch. Without
    --circuit the model's default circuit is used. Ctrl-C ends it.
    """
    from cna_mlx.serve.extra import require_extra

    require_extra()
    from cna_mlx.serve.opening import Address, open_service
    from cna_mlx.serve.server import bound
    from cna_mlx.serve.server import serve as run
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.serve import announce, tell_end
    from cna_mlx.util import ranks

    address = Address(host, port, api_key)
    with ExitStack() as stack:
        listener: list[socket] = []  # of rank 0
        ranks.first(lambda: listener.append(stack.enter_context(bound(host, port))))
        session, options = values.session_of(model, rest), values.selection_of(rest)
        values.use_search(session, options, rest)
        service = open_service(
            session,
            options,
            address,
            circuits=rest["circuits"],
            multipliers=rest["multipliers"],
            rows=rows,
            queue=queue,
            max_tokens=max_tokens,
            seconds=timeout,
            log=log,
        )
        for one in listener:
            announce(screen(), service, one.getsockname()[:2])
        own = listener[0] if listener else None
        is_whole = run(service, own, screen().note)
    tell_end(screen(), service, is_whole=is_whole)
    return is_whole
