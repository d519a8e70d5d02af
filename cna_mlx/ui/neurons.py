"""Show neurons: what they write, what circuits share, and a neuron's page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.analysis.circuit_overlap import CircuitOverlap
from cna_mlx.neurons import Neuron
from cna_mlx.ui.console import Screen, folded, folded_after
from cna_mlx.ui.lists import table_or_lines
from cna_mlx.util.formatting import NO_VALUE, decimal, p_value

if TYPE_CHECKING:  # showing a circuit file must not import these
    from cna_mlx.discovery.attribution import WrittenTokens

_CHANCE = (
    "chance: the Jaccard overlap expected of random circuits with the same number of "
    "neurons in each layer; p: the probability that they share at least as many"
)
_UNKNOWN = "-: the models differ in shape, or no file names its model's shape"


def written_view(
    screen: Screen, neurons: Sequence[Neuron], written: Sequence["WrittenTokens"]
) -> RenderableType:
    """The tokens that each neuron promotes and suppresses."""
    lines: list[RenderableType] = [
        Text(),
        Text(
            "what they promote (+) and suppress (-) on the positive prompts",
            style="bold",
        ),
    ]
    for neuron, one in zip(neurons, written, strict=True):
        place = f"{neuron.layer:>5} {neuron.index:>6}"
        lines += written_lines(screen, place, one)
    return Group(*lines)


def written_lines(screen: Screen, head: str, one: "WrittenTokens") -> list[Text]:
    """Two lines, promoted and suppressed, behind a head."""
    signs = ((f"{head}  + ", one.promotes), (f"{' ' * len(head)}  - ", one.suppresses))
    return [
        Text(line)
        for start, tokens in signs
        for line in folded_after(screen, start, [" ".join(map(repr, tokens))])
    ]


def overlaps_view(
    screen: Screen, pairs: Sequence[tuple[str | None, str | None, CircuitOverlap]]
) -> RenderableType:
    """What each pair of circuits shares, a row for each pair."""
    names = ("circuits", "neurons", "shared", "Jaccard", "chance", "p")
    rows = [[f"{a}, {b}", *_shares(one)] for a, b, one in pairs]
    notes = [_CHANCE]
    if any(one.shared is None for *_, one in pairs):
        notes.append(_UNKNOWN)
    return Group(
        table_or_lines(screen, names, rows),
        *(Text(line, style="dim") for line in folded(screen, notes, 0)),
    )


def _shares(one: CircuitOverlap) -> list[str]:
    sizes, shared = "/".join(map(str, one.sizes)), one.shared
    if shared is None:
        return [sizes, *[NO_VALUE] * 4]
    return [
        sizes,
        str(shared.shared),
        decimal(shared.jaccard),
        decimal(shared.chance_by_layer, 4),
        p_value(shared.p),
    ]
