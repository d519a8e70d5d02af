"""Pictures of a circuit: where its neurons are, and what they do on prompts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.circuit_profile import scores
from cna_mlx.evaluation.samples import Sample
from cna_mlx.report.content import Caption, Mark, Picture
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
from cna_mlx.util.formatting import counted

# Neurons that are drawn; the largest mark in pixels, and where there are many.
_DRAWN, _MANY, _LARGEST, _SMALLER = 1000, 100, 9.0, 6.0
# Standard deviations at the ends of the shades.
_FAR = 2.0
_KINDS = ("harmful", "benign")


def constellation(circuit: Circuit, n_layers: int) -> Picture:
    """Each neuron by its layer and rank; its size is |delta|, its form the sign."""
    shown = circuit.neurons[:_DRAWN]
    own = scores(circuit)[:_DRAWN]
    has_scores = all(one is not None for one in own)
    top, height = 66, min(440, max(160, 9 * len(shown)))
    x = Axis(0, max(1, n_layers - 1), 62, WIDTH - (104 if has_scores else 24))
    y = Axis(1, max(2, len(shown)), top, top + height)
    most = max(abs(one.delta) for one in shown) or 1.0
    largest = _LARGEST if len(shown) <= _MANY else _SMALLER
    parts = [*_ranks(circuit, x, y, own if has_scores else [])]
    for rank, neuron in enumerate(shown, 1):
        radius = max(1.8, largest * (abs(neuron.delta) / most) ** 0.5)
        form, look = (diamond, "down") if neuron.delta < 0 else (disc, "up")
        name = circuit.model.neuron_name(neuron.layer, neuron.index)
        said = f"rank {rank}: layer {neuron.layer}, neuron {name}, delta "
        d = form(x.at(neuron.layer), y.at(rank), radius)
        parts.append(Mark(d, look, f"{said}{neuron.delta:+.3g}"))
    return Picture(
        "Where the circuit's neurons are",
        _profile(circuit, n_layers),
        WIDTH,
        top + height + 58,
        parts,
        f"Marks are larger for a larger |delta|, up to {most:.3g}."
        + (f" Only the first {_DRAWN:,} are drawn." * (len(circuit.neurons) > _DRAWN)),
    )


def _profile(circuit: Circuit, n_layers: int) -> str:
    """In which layers the neurons are, and how many are higher on which side."""
    counts = Counter(one.layer for one in circuit.neurons)
    (layer, most), *rest = counts.most_common(2)
    where = f"most in layer {layer} ({most})"
    if rest and rest[0][1] == most:
        where = f"{most} at most in a layer"
    third = n_layers - -(-n_layers // 3)
    late = sum(count for own, count in counts.items() if own >= third)
    falling = sum(one.delta < 0 for one in circuit.neurons)
    total = len(circuit.neurons)
    return (
        f"{counted(total, 'neuron')} in layers {min(counts)} to {max(counts)} of a "
        f"model with layers 0 to {n_layers - 1}: {late} in its last third, {where}. "
        f"{total - falling} are higher on the {_side(circuit)} prompts, "
        f"{falling} lower."
    )


def _side(circuit: Circuit) -> str:
    contrast = circuit.provenance.contrast
    return (contrast and contrast.positive_label) or "positive"


def _ranks(
    circuit: Circuit, x: Axis, y: Axis, own: Sequence[float | None]
) -> Iterator[Mark | Caption]:
    """The legend, the axes, and the score of some ranks."""
    side = _side(circuit)
    yield Mark(disc(70, 13, 6), "up")
    yield Caption(82, 18, f"higher on {side} prompts")
    yield Mark(diamond(330, 13, 6), "down")
    yield Caption(342, 18, f"lower on {side} prompts")
    yield Caption(x.start - 10, y.start - 22, "rank", "end soft")
    if own:
        name = circuit.provenance.rank or "score"
        yield Caption(x.end + 14, y.start - 22, name, "soft")
    for rank in ticks(len(circuit.neurons[:_DRAWN]), 1):
        place = y.at(rank)
        yield Mark(line(x.start - 4, place, x.end + 4, place), "guide")
        yield Caption(x.start - 10, place + 4, str(rank), "end")
        if own:
            yield Caption(x.end + 14, place + 4, f"{own[rank - 1]:.3g}")
    yield from axis_below(x, y.end + 14, ticks(int(x.high)), "layer")


def heat_map(data: Mapping[str, Any], samples: Sequence[Sample]) -> Picture:
    """The neurons' activations at the last token of each prompt, by neuron.

    Args:
        data: of :class:`cna_mlx.evaluation.neurons.CircuitNeurons`.
        samples: the baseline's, of all prompts.
    """
    order = sorted(range(len(data["neurons"])), key=lambda at: data["neurons"][at][0])
    columns = _columns(data["prompts"], samples)
    rows = _shades(np.array(data["activations"], dtype=float))[order]
    left, top, gap = 62.0, 66.0, 12.0
    count = sum(map(len, columns.values()))
    width = (WIDTH - left - 12 - gap * (len(columns) - 1)) / count
    height = min(16.0, max(5.0, 420 / len(rows)))
    parts: list[Mark | Caption] = [Caption(left - 8, top - 8, "refused", "end soft")]
    start = left
    for kind, part in columns.items():
        parts += _prompts(kind, part, rows, (start, top), (width, height))
        start += width * len(part) + gap
    layers = [data["neurons"][at][0] for at in order]
    parts += _layer_names(layers, left, top, height)
    end = top + height * len(rows)
    parts += scale_of_shades(left + 210, end + 14, "lower than usual", "higher")
    return Picture(
        "The circuit's neurons on the prompts of this run",
        _heat_text(data, columns),
        WIDTH,
        end + 36,
        parts,
        "A row is a neuron, ordered by layer (left); a column is a prompt, the highest "
        "gauge first. Shades are the activation at the prompt's last token without "
        f"steering, from {_FAR:g} standard deviations of this neuron below its mean to "
        f"{_FAR:g} above. The line on top marks the prompts that the baseline refuses.",
    )


def _prompts(
    kind: str,
    part: Sequence[tuple[int, Sample]],
    rows: np.ndarray,
    start: tuple[float, float],
    size: tuple[float, float],
) -> Iterator[Mark | Caption]:
    """The cells of a kind of prompts, and which of these are refused."""
    (x, y), (width, height) = start, size
    wide = width * len(part)
    yield Caption(x + wide / 2, y - 22, f"{kind} ({len(part)})", "middle")
    refused = [
        rectangle(x + at * width, y - 16, width, 9)
        for at, (_, one) in enumerate(part)
        if one.is_refused
    ]
    yield Mark("".join(refused), "ink")
    yield from cells(rows[:, [at for at, _ in part]].tolist(), *start, *size)
    yield Mark(rectangle(x, y, wide, height * len(rows)), "frame")


def _columns(
    numbers: Sequence[int], samples: Sequence[Sample]
) -> dict[str, list[tuple[int, Sample]]]:
    """The prompts of each kind, the highest gauge first, with their column."""
    known = {one.number: one for one in samples}
    found = [
        (at, known[number]) for at, number in enumerate(numbers) if number in known
    ]
    kinds = dict.fromkeys((*_KINDS, *(one.kind for _, one in found)))
    by_kind = {kind: [one for one in found if one[1].kind == kind] for kind in kinds}
    return {
        kind: sorted(part, key=lambda one: -(one[1].gauge or 0.0))
        for kind, part in by_kind.items()
        if part
    }


def _shades(values: np.ndarray) -> np.ndarray:
    """Standardized by row, as shades."""
    spread = values.std(axis=1, keepdims=True)
    far = (values - values.mean(axis=1, keepdims=True)) / np.where(spread, spread, 1)
    share = (np.clip(far, -_FAR, _FAR) + _FAR) / (2 * _FAR)
    return np.rint(share * (SHADES - 1)).astype(int)


def _layer_names(
    layers: Sequence[int], left: float, top: float, height: float
) -> Iterator[Mark | Caption]:
    """The layer at the first of its rows, where there is room."""
    last = -100.0
    for row, layer in enumerate(layers):
        if row and layers[row - 1] == layer:
            continue
        place = top + row * height
        yield Mark(line(left - 6, place, left - 1, place), "axis")
        if place - last >= 13:
            yield Caption(left - 9, place + 10, f"layer {layer}", "end")
            last = place


def _heat_text(
    data: Mapping[str, Any], columns: Mapping[str, Sequence[tuple[int, Sample]]]
) -> str:
    """How the mean activation of the kinds differs, over the neurons."""
    values = np.array(data["activations"], dtype=float)
    text = f"The first {counted(len(values), 'neuron')} of the circuit on " + ", ".join(
        f"{len(part)} {kind} prompts" for kind, part in columns.items()
    )
    if not all(kind in columns for kind in _KINDS):
        return f"{text}."
    one, other = (
        values[:, [at for at, _ in columns[kind]]].mean(axis=1) for kind in _KINDS
    )
    return (
        f"{text}: {int((one > other).sum())} are higher on the harmful prompts on "
        f"average, {int((one < other).sum())} lower."
    )
