"""The sections of a report on a search, on a circuit and on its first neurons."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from cna_mlx.circuit import Circuit
from cna_mlx.circuit_profile import effect_sizes, routing, routing_texts, scores
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.evaluation.runs import NEURONS, SEARCH, RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.provenance import ModelEntry
from cna_mlx.report.circuit_pictures import constellation, heat_map
from cna_mlx.report.content import (
    Cell,
    Picture,
    Piece,
    ReportSection,
    ReportTable,
    ShownFiring,
    ShownNeuron,
    TextLevel,
)
from cna_mlx.report.search_pictures import front_table, layer_map, pareto
from cna_mlx.util.formatting import counted, decimal
from cna_mlx.util.sanitize import quoted

_LISTED = 10
# Characters of a prompt around a token.
_BEFORE, _AFTER = 90, 60

_Made = TypeVar("_Made")


def search_section(run: RunRecord) -> ReportSection | None:
    """What a search tried; None for a run of no search.

    Raises:
        InputError: the file is damaged.
    """
    return _from_file(run, SEARCH, lambda data: _search(run, data))


def circuit_sections(
    run: RunRecord, samples: Sequence[Sample], level: TextLevel
) -> Iterator[ReportSection]:
    """The circuit and its first neurons, as far as the run has their files.

    Raises:
        InputError: a file is damaged.
    """
    circuit = _circuit(run)
    if circuit is None:
        return
    baseline = [one for one in samples if one.arm == run.arms[0].label]
    drawn = _from_file(run, NEURONS, lambda data: heat_map(data, baseline))
    yield circuit_section(circuit, [drawn] if drawn else [])
    pages = _from_file(run, NEURONS, lambda data: _pages(data, circuit, level))
    if pages:
        text = (
            "What the first neurons write on the prompts of the contrast's positive "
            "side, and the tokens of this run's prompts where they are highest and "
            "lowest, without steering. Each prompt counts once."
        )
        yield ReportSection("neurons", "The first neurons", [text], neurons=pages)


def circuit_section(circuit: Circuit, further: Sequence[Picture] = ()) -> ReportSection:
    """The layers, ranks and first neurons of a circuit."""
    n_layers = len(circuit.model.d_ff or ()) or 1 + max(circuit.by_layer())
    picture = constellation(circuit, n_layers)
    return ReportSection(
        "circuit",
        "The circuit",
        [picture.alt],
        pictures=[picture, *further],
        tables=[_neuron_table(circuit)],
    )


def _circuit(run: RunRecord) -> Circuit | None:
    """The main circuit; None if it has no neurons, or its file is gone."""
    try:
        circuit = next(iter(run.circuits.values()), None)
    except CircuitError:
        return None
    return circuit if circuit and circuit.neurons else None


def _from_file(
    run: RunRecord, name: str, make: Callable[[Mapping[str, Any]], _Made]
) -> _Made | None:
    data = run.kept(name)
    try:
        return None if data is None else make(data)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise InputError(
            f"{run.directory / name}: it is damaged; delete it, and the report is made "
            "without its pictures"
        ) from None


def _search(run: RunRecord, data: Mapping[str, Any]) -> ReportSection:
    circuit = _circuit(run)
    pictures = [pareto(data)]
    if circuit and any(data["layers"]["delta"]):
        pictures.append(layer_map(data["layers"], circuit))
    return ReportSection(
        "search",
        "The search",
        [pictures[0].alt],
        pictures=pictures,
        tables=[front_table(data)],
    )


def _neuron_table(circuit: Circuit) -> ReportTable:
    own, sizes = scores(circuit), effect_sizes(circuit)
    has_scores = all(one is not None for one in own)
    routes, texts = routing(circuit), partial(routing_texts, form="+.3g")
    rows = [
        [
            Cell(str(rank)),
            Cell(str(neuron.layer)),
            Cell(circuit.model.neuron_name(neuron.layer, neuron.index)),
            Cell(f"{neuron.delta:+.3g}"),
            Cell(decimal(sizes[rank - 1])),
            *([Cell(f"{own[rank - 1]:.3g}")] if has_scores else []),
            *(map(Cell, texts(routes[rank - 1])) if any(routes) else []),
        ]
        for rank, neuron in enumerate(circuit.neurons[:_LISTED], 1)
    ]
    columns = ["rank", "layer", circuit.model.neuron_title, "delta", "Cohen's d"]
    columns += [circuit.provenance.rank or "score"] if has_scores else []
    if any(routes):
        columns += ["routed: positive", "negative", "delta if routed"]
    shown = counted(len(rows), "neuron")
    return ReportTable(f"The first {shown} of {len(circuit.neurons):,}", columns, rows)


def _pages(
    data: Mapping[str, Any], circuit: Circuit, level: TextLevel
) -> list[ShownNeuron]:
    return [
        _page(rank, neuron.delta, circuit.model, page, level)
        for (rank, neuron), page in zip(
            enumerate(circuit.neurons, 1), data["pages"], strict=False
        )
    ]


def _page(
    rank: int,
    delta: float,
    model: ModelEntry,
    page: Mapping[str, Any],
    level: TextLevel,
) -> ShownNeuron:
    name = model.neuron_name(page["layer"], page["index"])
    place = f"layer {page['layer']}, neuron {name}"
    verbs = ("promotes", "suppresses")
    return ShownNeuron(
        f"Rank {rank}: {place}, delta {delta:+.3g}",
        [(verb, " ".join(map(quoted, page["written"][verb]))) for verb in verbs],
        *([_firing(one, level) for one in page[end]] for end in ("highest", "lowest")),
    )


def _firing(one: Mapping[str, Any], level: TextLevel) -> ShownFiring:
    """The token in its prompt; hidden texts are left out."""
    activation = f"{one['activation']:+.2f}"
    if level == "hidden":
        return ShownFiring(activation, str(one["source"]), ())
    before, token, after = (
        one[part].replace("\n", "\\n") for part in ("before", "token", "after")
    )
    head, tail = before[-_BEFORE:], after[:_AFTER]
    pieces = (
        *([Piece("[…] ", "gap")] if head != before else []),
        Piece(head),
        Piece(token, "mark"),
        Piece(tail),
        *([Piece(" […]", "gap")] if tail != after else []),
    )
    return ShownFiring(activation, str(one["source"]), pieces)
