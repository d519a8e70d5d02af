"""Pictures of a search: what each circuit cost and won, and which layers score."""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.report.content import Caption, Cell, Mark, Picture, ReportTable
from cna_mlx.report.drawing import (
    SHADES,
    WIDTH,
    Axis,
    axis_below,
    cells,
    diamond,
    disc,
    line,
    rectangle,
    scale_of_shades,
    ticks,
)
from cna_mlx.strength import from_intervention, strength_text
from cna_mlx.util.formatting import counted, decimal

# A standing of :class:`cna_mlx.search.trial.Standing` as JSON.
Tried = Mapping[str, Any]

_SCORES = {
    "delta": "|delta|: tells the prompts apart",
    "influence": "influence: decides",
}
# The width of a letter, about.
_LETTER = 8.2
# The line of the captions above the circuits, clear of the names of those at 100%.
_TOP = 46.0
_KLS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)


def share(one: Tried) -> float:
    """The share of refusals that became answers."""
    return one["lost"] / one["refusals"] if one["refusals"] else 0.0


def pareto(data: Mapping[str, Any]) -> Picture:
    """Refusals lost against KL, for every circuit that was tried."""
    tried, front, chosen = data["tried"], data["front"], data["chosen"]
    most = max(one["refusals"] for one in tried)
    end = 1.06 * max(0.05, data["max_kl"], *(one["kl"] for one in tried))
    x = Axis(0, end, 62, WIDTH - 24, math.sqrt)
    y = Axis(0, 1, 366, 86)
    parts = [*_frame(x, y, data["max_kl"]), *_legend()]
    for one in tried:
        look = "tried" if 2 * one["refusals"] >= most else "tried early"
        mark = disc(x.at(one["kl"]), y.at(share(one)), 3.4)
        parts.append(Mark(mark, look, title(one)))
    parts.append(Mark(_steps(front, x, y), "front"))
    parts += [
        Mark(disc(x.at(one["kl"]), y.at(share(one)), 4.4), "onfront", title(one))
        for one in front
    ]
    paper = next((one for one in tried if one["is_paper"]), None)
    parts += _marked(chosen, paper, x, y)
    return Picture(
        "What each circuit won and what it cost",
        _pareto_text(data, paper),
        WIDTH,
        420,
        parts,
        f"{counted(len(tried), 'circuit')} on the half of the prompts where circuits "
        "are chosen. Up: more refusals became answers. Left: ordinary answers changed "
        "less. Of the circuits that were not dropped early, none beats those on the "
        "line in both; the dropped ones answered few prompts, so their share is rough. "
        "The tables of refusals are of the other half, which the search did not use.",
    )


def title(one: Tried) -> str:
    """A circuit in words, with its figures."""
    lost = f"{one['lost']} of {counted(one['refusals'], 'refusal')} lost"
    return f"{name(one)}: {lost}, KL {decimal(one['kl'])}"


def name(one: Tried) -> str:
    """``230 neurons by influence, layers 0-19``."""
    first, last = one["layers"]
    size = counted(one["neurons"], "neuron")
    text = f"{size} by {one['rank']}, layers {first}-{last}"
    strength = from_intervention(one["intervention"])
    return text if strength == 0 else f"{text}, {strength_text(strength)}"


def front_table(data: Mapping[str, Any]) -> ReportTable:
    """The circuits on the front, the paper's and the chosen one."""
    chosen, front = data["chosen"], data["front"]
    shown = [*front, *(one for one in data["tried"] if one["is_paper"])]
    shown += [chosen] if chosen else []
    rows = []
    for one in sorted(_distinct(shown), key=lambda one: one["kl"]):
        marks = ["chosen"] if one == chosen else []
        marks += ["the paper's"] if one["is_paper"] else []
        marks += [] if one in front else ["not on the front"]
        rows.append(
            [
                Cell(name(one), ", ".join(marks)),
                Cell(f"{one['lost']} of {one['refusals']}"),
                Cell(decimal(one["kl"])),
                Cell(decimal(one["quality"])),
            ]
        )
    columns = ("circuit", "refusals lost", "KL", "quality")
    shown_as = "The front, the chosen circuit and the paper's"
    return ReportTable(shown_as, columns, rows)


def _distinct(tried: Sequence[Tried]) -> list[Tried]:
    return [one for at, one in enumerate(tried) if one not in tried[:at]]


def _frame(x: Axis, y: Axis, limit: float) -> Iterator[Mark | Caption]:
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        place = y.at(value)
        yield Mark(line(x.start, place, x.end, place), "guide")
        yield Caption(x.start - 8, place + 4, f"{100 * value:.0f}%", "end")
    yield Caption(8, _TOP, "refusals lost", "soft")
    allowed = x.at(limit)
    yield Mark(line(allowed, _TOP - 10, allowed, y.start), "limit")
    is_right = allowed > 0.7 * WIDTH
    place = allowed - 5 if is_right else allowed + 5
    words = f"KL allowed: {limit:g}"
    yield Caption(place, _TOP, words, "soft" + " end" * is_right)
    values = [one for one in _KLS if one <= x.high]
    apart = [
        one
        for at, one in enumerate(values)
        if not at or x.at(one) - x.at(values[at - 1]) > 30
    ]
    said = "KL on benign prompts, nats (square-root scale)"
    yield from axis_below(x, y.start, apart, said)


def _legend() -> Iterator[Mark | Caption]:
    marks = (
        (disc, "onfront", "on the front"),
        (disc, "tried", "tried"),
        (disc, "tried early", "dropped early"),
        (diamond, "chosen", "chosen"),
        (_square, "paper", "the paper's"),
    )
    at = 14.0
    for form, look, text in marks:
        yield Mark(form(at, 14, 5), look)
        yield Caption(at + 11, 19, text)
        at += 11 + _LETTER * len(text) + 22


def _square(x: float, y: float, r: float) -> str:
    return rectangle(x - r, y - r, 2 * r, 2 * r)


def _steps(front: Sequence[Tried], x: Axis, y: Axis) -> str:
    """From each circuit of the front to the right, then up to the next."""
    if not front:
        return ""
    places = [(x.at(one["kl"]), y.at(share(one))) for one in front]
    start = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    rest = "".join(f"H{across:.1f}V{up:.1f}" for across, up in places[1:])
    return f"{start}{rest}H{x.end:.1f}"


def _marked(
    chosen: Tried | None, paper: Tried | None, x: Axis, y: Axis
) -> Iterator[Mark | Caption]:
    """The chosen circuit and the paper's, with their names."""
    is_same = chosen is not None and chosen == paper
    for one, form, look, word, below in (
        (paper, _square, "paper", "" if is_same else "the paper's", True),
        (chosen, diamond, "chosen", "chosen, the paper's" * is_same or "chosen", False),
    ):
        if one is None:
            continue
        across, up = x.at(one["kl"]), y.at(share(one))
        yield Mark(form(across, up, 7), look, title(one))
        words = f"{word}: {name(one)}"
        place = max(8, min(across + 12, WIDTH - _LETTER * len(words)))
        drop = 22 if below and up < y.start - 30 else -14
        if word:
            yield Caption(place, up + drop, words, "strong halo")


def _pareto_text(data: Mapping[str, Any], paper: Tried | None) -> str:
    chosen = data["chosen"]
    parts = [
        f"{counted(len(data['tried']), 'circuit')} tried",
        f"chosen: {title(chosen)}" if chosen else "none chosen",
        *([f"the paper's: {title(paper)}"] if paper else []),
    ]
    return "; ".join(parts) + "."


def layer_map(layers: Mapping[str, Any], circuit: Circuit) -> Picture:
    """Each layer's best neurons by |delta|, beside the best by influence."""
    panels = {key: layers[key] for key in _SCORES if any(layers[key])}
    n_layers = max(map(len, panels.values()))
    ranks = max(len(row) for rows in panels.values() for row in rows)
    left, top, gap = 50.0, 44.0, 30.0
    wide = (WIDTH - left - 12 - gap * (len(panels) - 1)) / len(panels)
    width, height = wide / ranks, min(14.0, max(5.0, 420 / n_layers))
    parts: list[Mark | Caption] = [Caption(left - 6, top - 8, "layer", "end soft")]
    for layer in ticks(n_layers - 1):
        place = top + (layer + 0.5) * height + 4
        parts.append(Caption(left - 6, place, str(layer), "end"))
    members = {(one.layer, one.index) for one in circuit.neurons}
    end = top + n_layers * height
    for at, (key, rows) in enumerate(panels.items()):
        start = left + at * (wide + gap)
        parts += _panel(_SCORES[key], rows, (start, top), (width, height), members)
        parts.append(Mark(rectangle(start, top, wide, end - top), "frame"))
        axis = Axis(1, ranks, start + width / 2, start + wide - width / 2)
        parts += axis_below(axis, end, ticks(ranks, 1), "rank in its layer")
        if not rows[-1]:
            words = Caption(start + wide / 2, end - 10, "not scored", "middle soft")
            parts.append(words)
    parts += scale_of_shades(left + 210, end + 52, "1/64 or less", "strongest")
    return Picture(
        "Which layers tell, and which decide",
        _map_text(panels),
        WIDTH,
        end + 74,
        parts,
        f"Each row has a layer's {ranks} best neurons by this score. Each shade is "
        "twice the one before. Dots are neurons of the circuit.",
    )


def _panel(
    title: str,
    rows: Sequence[Sequence[tuple[int, float]]],
    start: tuple[float, float],
    size: tuple[float, float],
    members: Set[tuple[int, int]],
) -> Iterator[Mark | Caption]:
    """The cells of a score, with dots in those of the circuit."""
    (x, y), (width, height) = start, size
    most = max(score for row in rows for _, score in row)
    yield Caption(x, y - 24, title, "strong")
    yield Caption(x, y - 8, f"strongest {most:.3g}", "soft")
    grid = [[shade(score, most) for _, score in row] for row in rows]
    yield from cells(grid, *start, *size)
    dots = [
        disc(x + (rank + 0.5) * width, y + (layer + 0.5) * height, 1.6)
        for layer, row in enumerate(rows)
        for rank, (index, _) in enumerate(row)
        if (layer, index) in members
    ]
    yield Mark("".join(dots), "dot")


def shade(score: float, most: float) -> int:
    """The strongest for more than half of ``most``, one less for each halving."""
    if score <= 0:
        return 0
    return max(0, SHADES - 1 - int(math.log2(most / score)))


def _map_text(panels: Mapping[str, Any]) -> str:
    """Where the 50 best neurons of each score are."""
    said = []
    for key, rows in panels.items():
        best = sorted(
            ((score, layer) for layer, row in enumerate(rows) for _, score in row),
            reverse=True,
        )[:50]
        layers = sorted(layer for _, layer in best)
        middle = layers[len(layers) // 2]
        name = "|delta|" if key == "delta" else key
        said.append(
            f"the {len(best)} neurons with the largest {name} are in layers "
            f"{layers[0]} to {layers[-1]} (median {middle})"
        )
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}."
