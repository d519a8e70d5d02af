"""What a server says when it begins and ends."""

from rich.text import Text

from cna_mlx.serve.service import Service
from cna_mlx.ui.console import Screen
from cna_mlx.util.formatting import counted

_LISTED = 6


def announce(screen: Screen, service: Service, address: tuple[str, int]) -> None:
    """Say where the server is, and what can be asked for."""
    host, port = address
    shown = f"[{host}]" if ":" in host else host
    names = service.arms.listed()
    more = " ..." if len(names) > _LISTED else ""
    lines = [
        ("address", f"http://{shown}:{port}/v1"),
        ("page", f"http://{shown}:{port}/"),
        ("models", ", ".join(names[:_LISTED]) + more),
    ]
    if service.arms.circuits:
        lines.append(("", "@M scales the circuit by any M: 0 ablates it"))
    for name, value in lines:
        screen.show(Text.assemble((f"{name:9}", "dim"), screen.safe(value)))
    screen.note("Ctrl-C ends the server")


def tell_end(screen: Screen, service: Service, *, is_whole: bool) -> None:
    """Say what was answered."""
    answers = counted(service.served, "answer")
    screen.note(f"{answers} with {counted(service.tokens, 'token')} served")
    if not is_whole:
        screen.note("answers that ran were ended")
