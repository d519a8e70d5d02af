"""A page on how stable a circuit is: the findings, charts, and every neuron."""

from collections.abc import Iterator

from cna_mlx.report.content import (
    Cell,
    Chart,
    Page,
    Point,
    ReportSection,
    ReportTable,
    Series,
)
from cna_mlx.report.facts import written
from cna_mlx.report.html import to_html
from cna_mlx.search.stability import Overlaps, Stability
from cna_mlx.search.stability_text import a_side, stability_lines
from cna_mlx.util.files import File, typed_path, write_atomically
from cna_mlx.util.formatting import counted, decimal, decimal_range, percent

_RANGE = "Thin lines run from the least to the largest overlap of the pairs drawn."
_JACCARD = (
    "The overlap of two circuits is the share of the neurons of either that are in "
    "both (Jaccard): 0 for none, 1 for equal circuits."
)


def write_stability_page(found: Stability, path: File) -> None:
    """Write the page as one HTML file; raises InputError if it cannot be written."""
    place = typed_path(path, "--out")
    write_atomically(place, to_html(stability_page(found)))


def stability_page(found: Stability) -> Page:
    """The content of the page."""
    headline, *sentences = stability_lines(found)
    return Page(
        "stability",
        f"How stable the circuit of {found.model} is",
        f"{counted(found.k, 'neuron')} of {found.total:,} by {found.rank}, from "
        f"{found.contrast}",
        headline,
        [*sentences, _JACCARD],
        list(_sections(found)),
        written(),
    )


def fraction_text(fraction: float) -> str:
    """``0.03%``."""
    return f"{100 * fraction:g}%"


def tenth_rows(found: Stability) -> list[tuple[str, int]]:
    """How many neurons are chosen in 90 to 100% of the resamples, and less often."""
    counts = found.tenths()
    least = next((place for place, count in enumerate(counts) if count), 9)
    return [
        (f"{10 * tenth} to {10 * tenth + 10}%", counts[tenth])
        for tenth in range(9, least - 1, -1)
    ]


def _sections(found: Stability) -> Iterator[ReportSection]:
    yield _resamples(found)
    yield _prompts(found)
    yield _sizes(found)
    if found.others or found.bank:
        yield _others(found)
    if found.unfiltered:
        yield _filter(found)
    yield ReportSection("facts", "What was run", facts=_facts(found))
    yield _neurons(found)


def _resamples(found: Stability) -> ReportSection:
    text = (
        f"Both sides are drawn with replacement, {found.resamples} times, and the "
        "circuit is found from each draw. On average it overlaps with the circuit of "
        f"all prompts by {decimal(found.bootstrap.mean)}. Draws share prompts, so this "
        "flatters the circuit; disjoint halves do not."
    )
    total = max(1, len(found.neurons))
    rows = tenth_rows(found)
    points = [Point(n, 100 * count / total) for n, (_, count) in enumerate(rows)]
    chart = Chart(
        "bars",
        "Neurons of the circuit by how many resamples choose them",
        [Series("neurons", points)],
        [name for name, _ in rows],
        unit="%",
        top=100,
    )
    return ReportSection("resamples", "Resampled prompts", [text], charts=[chart])


def _prompts(found: Stability) -> ReportSection:
    sizes = [min(one.prompts) for one in found.subsets]
    disjoint = [one.disjoint for one in found.subsets]
    whole = [one.circuit for one in found.subsets]
    series = [
        Series("two disjoint subsets", _points(sizes, disjoint)),
        Series("with all prompts", _points(sizes, whole)),
    ]
    title = "Overlap of circuits by the number of prompts"
    chart = Chart("lines", title, series, axis="prompts a side", top=1)
    table = ReportTable(
        title,
        ("prompts a side", "two disjoint subsets", "with all prompts", "by chance"),
        [
            _row(
                a_side(one.prompts),
                _cell(one.disjoint),
                _cell(one.circuit),
                _chance(one.disjoint),
            )
            for one in found.subsets
        ],
        f"The odd and the even prompts overlap by {decimal(found.odd_even)}.",
    )
    return ReportSection(
        "prompts", "Fewer prompts", [_RANGE], tables=[table], charts=[chart]
    )


def _sizes(found: Stability) -> ReportSection:
    names = [f"{fraction_text(one.fraction)} ({one.k:,})" for one in found.fractions]
    halves = [one.halves for one in found.fractions]
    title = "Overlap of the halves' circuits by the share of neurons kept"
    points = _points(list(range(len(halves))), halves)
    chart = Chart("bars", title, [Series("halves", points)], names, top=1)
    table = ReportTable(
        title,
        ("neurons", "two halves", "by chance"),
        [
            _row(name, _cell(one), _chance(one))
            for name, one in zip(names, halves, strict=True)
        ],
    )
    return ReportSection("sizes", "Other sizes", tables=[table], charts=[chart])


def _others(found: Stability) -> ReportSection:
    rows = [
        _row(one.name, a_side(one.prompts), decimal(one.jaccard))
        for one in found.others
    ]
    if found.bank:
        rows.append(_row("unrelated contrasts", "8", _cell(found.bank)))
    title = "Overlap with the circuits of other contrasts"
    table = ReportTable(title, ("contrast", "prompts a side", "overlap"), rows)
    return ReportSection("others", "Other prompts", tables=[table])


def _filter(found: Stability) -> ReportSection:
    raw = found.unfiltered
    assert raw is not None
    pairs = (
        ("with the filter", len(found.neurons), found.bootstrap, found.halves),
        ("without", raw.neurons, raw.bootstrap, raw.halves),
    )
    rows = [
        _row(name, str(count), _cell(bootstrap), _cell(halves))
        for name, count, bootstrap, halves in pairs
    ]
    title = "Universal neurons left out, and kept"
    columns = ("", "neurons", "resamples with the circuit", "two halves")
    table = ReportTable(title, columns, rows)
    return ReportSection("filter", "The universal filter", tables=[table])


def _neurons(found: Stability) -> ReportSection:
    rows = [
        _row(str(rank), str(one.layer), one.name, percent(one.frequency))
        for rank, one in enumerate(found.neurons, 1)
    ]
    title = "The neurons by their score"
    has_experts = any(":" in one.name for one in found.neurons)
    neuron = "expert:neuron" if has_experts else "neuron"
    table = ReportTable(title, ("rank", "layer", neuron, "chosen in"), rows)
    return ReportSection("neurons", "Every neuron", tables=[table])


def _facts(found: Stability) -> list[tuple[str, str]]:
    positive, negative = found.prompts
    first, last = found.layers
    tokens = f"last {found.positions} tokens" if found.positions > 1 else "last token"
    return [
        ("model", found.model),
        ("contrast", f"{found.contrast} ({positive}/{negative})"),
        ("selection", f"{found.fraction} by {found.rank}, layers {first}-{last}"),
        ("positions", f"the {tokens} of the prompt"),
        ("draws", f"{found.resamples} resamples, seed {found.seed}"),
        ("read", f"{counted(found.read, 'prompt')} in {found.seconds:.1f} s"),
    ]


def _points(places: list[int], values: list[Overlaps]) -> list[Point]:
    pairs = zip(places, values, strict=True)
    return [Point(place, one.mean, one.low, one.high) for place, one in pairs]


def _row(*cells: Cell | str) -> list[Cell]:
    return [Cell(one) if isinstance(one, str) else one for one in cells]


def _cell(one: Overlaps) -> Cell:
    return Cell(decimal(one.mean), decimal_range(one.low, one.high))


def _chance(one: Overlaps) -> Cell:
    return Cell(decimal(one.chance, 4))
