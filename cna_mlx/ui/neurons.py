"""Show neurons: what they write, what circuits share, and a neuron's page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.analysis.circuit_overlap import CircuitOverlap
from cna_mlx.circuit import Circuit
from cna_mlx.ui.console import Screen, folded, folded_after
from cna_mlx.ui.lists import table_or_lines
from cna_mlx.util.formatting import NO_VALUE, counted, decimal, p_value, percent
from cna_mlx.util.sanitize import quoted

if TYPE_CHECKING:  # showing a circuit file must not import these
    from cna_mlx.discovery.attribution import WrittenTokens
    from cna_mlx.discovery.firing import Firing
    from cna_mlx.discovery.neuron_page import NeuronPage, OwnEffect

_CHANCE = (
    "chance: the Jaccard overlap expected of random circuits with the same number of "
    "neurons in each layer; p: the probability that they share at least as many"
)
# Characters of a prompt around a token.
_BEFORE, _AFTER = 60, 40
_UNKNOWN = "-: the models differ in shape, or no file names its model's shape"


def written_view(
    screen: Screen, circuit: Circuit, written: Sequence["WrittenTokens"]
) -> RenderableType:
    """The tokens that each of a circuit's first neurons promotes and suppresses."""
    lines: list[RenderableType] = [
        Text(),
        Text(
            "what they promote (+) and suppress (-) on the positive prompts",
            style="bold",
        ),
    ]
    for (layer, index, _), one in zip(circuit.neurons, written, strict=False):
        place = f"{layer:>5} {circuit.model.neuron_name(layer, index):>6}"
        lines += written_lines(screen, place, one)
    return Group(*lines)


def written_lines(screen: Screen, head: str, one: "WrittenTokens") -> list[Text]:
    """Two lines, promoted and suppressed, behind a head."""
    signs = ((f"{head}  + ", one.promotes), (f"{' ' * len(head)}  - ", one.suppresses))
    return [
        Text(line)
        for start, tokens in signs
        for line in folded_after(screen, start, [" ".join(map(quoted, tokens))])
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


def neuron_view(screen: Screen, page: "NeuronPage") -> RenderableType:
    """A neuron's page: its row, what it writes, its effect, where it fires."""
    row = page.row
    figures = [
        f"{name.replace('_', ' ')} "
        + (percent(value) if name.endswith("_routed") else f"{value:+.4g}")
        for name, value in row.items()
        if name not in ("layer", "index", "expert") and value is not None
    ]
    if page.effect_size is not None:
        figures.append(f"Cohen's d {decimal(page.effect_size)}")
    read = f"{counted(page.prompts, 'prompt')} and {counted(page.tokens, 'token')}"
    parts: list[RenderableType] = [
        Text(f"neuron {page.name} of layer {row['layer']}", style="bold"),
        *_lines(screen, "  ", [", ".join(figures)]),
        Text(),
        Text("promotes (+) and suppresses (-) on the positive prompts", style="bold"),
        *written_lines(screen, "", page.written),
        Text(),
        Text("its own effect", style="bold"),
        *_lines(screen, "  ", _effect(page.effect, page.contrast)),
    ]
    for title, found in (("highest", page.highest), ("lowest", page.lowest)):
        parts += [Text(), Text(f"{title} of {read}", style="bold")]
        for one in found:
            parts += _lines(
                screen, f"  {one.activation:+9.3f}  ", [_around(screen, one)]
            )
    return Group(*parts)


def _lines(screen: Screen, head: str, parts: Sequence[str]) -> list[Text]:
    return [Text(line) for line in folded_after(screen, head, parts)]


def _effect(effect: "OwnEffect | None", contrast: str) -> list[str]:
    if effect is None:
        return [
            f"unknown: the model's answers to the positive prompts of {contrast} begin "
            "like its others, so their first words cannot measure it"
        ]
    odds, chance = (
        NO_VALUE if one is None else f"{one:+.2f}"
        for one in (effect.log_odds_correlation, effect.probability_correlation)
    )
    verb = "raises" if effect.drop < 0 else "lowers"
    return [
        f"ablating it alone {verb} the log-odds of a refusing opening by "
        f"{abs(effect.drop):.3f} (mean over {effect.drop_prompts} positive prompts)",
        f"over {effect.prompts} prompts of {contrast} its activation correlates "
        f"{odds} with these log-odds and {chance} with the probability (Pearson)",
    ]


def _around(screen: Screen, one: "Firing") -> str:
    """The prompt around a token, which is marked."""
    before, after = one.before[-_BEFORE:], one.after[:_AFTER]
    left, right = screen.glyph("\u00bb", ">>"), screen.glyph("\u00ab", "<<")
    token = one.token.replace("\n", "\\n")
    head = "..." if before != one.before else ""
    tail = "..." if after != one.after else ""
    return f"{head}{before}{left}{token}{right}{after}{tail}  ({one.source})"
