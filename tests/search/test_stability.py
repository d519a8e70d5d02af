"""How stable a circuit is, against discoveries of the same prompts and numpy."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from commandline import TINY, make_screen, sent
from demo_mixture import write_demo_mixture

from cna_mlx import (
    DiscoveryOptions,
    PromptSet,
    load,
    render_prompt,
    write_stability_page,
)
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.discover import Discovery, run_discovery
from cna_mlx.errors import InputError
from cna_mlx.prompts import load_bank, load_contrast
from cna_mlx.report.charts import draw
from cna_mlx.report.stability_page import stability_page
from cna_mlx.search import resampling
from cna_mlx.search.resampling import subset_sizes
from cna_mlx.search.stability import Overlaps, Stability, stability
from cna_mlx.search.stability_text import stability_lines
from cna_mlx.ui.stability import stability_view

FRACTION = 0.05
OPTIONS = DiscoveryOptions(contrast="sentiment", fraction=FRACTION)
PLAIN = replace(OPTIONS, universal=False)
Neurons = set[tuple[int, int]]


def discovered(tiny: Any, options: DiscoveryOptions, contrast: Any = None) -> Discovery:
    contrast = contrast or options.prompts("")
    return run_discovery(*tiny, contrast, options.selection(""))


def members(found: Discovery) -> Neurons:
    return {(one.layer, one.index) for one in found.circuit.neurons}


def jaccard(one: Neurons, other: Neurons) -> float:
    return len(one & other) / len(one | other)


@pytest.fixture(name="found", scope="module")
def fixture_found(tiny: Any) -> Stability:
    return stability(*tiny, OPTIONS, others=["flattery", "refusal-small"])


@pytest.mark.parametrize("universal", [True, False])
@pytest.mark.parametrize("rank", ["delta", "normalized", "weighted"])
def test_the_circuit_and_its_halves_are_the_discovery_s(
    tiny: Any, rank: Any, universal: bool
) -> None:
    options = replace(OPTIONS, rank=rank, universal=universal, positions=2)
    found = stability(*tiny, options, resamples=2)
    known = discovered(tiny, options)
    assert [one[:2] for one in found.neurons] == [n[:2] for n in known.circuit.neurons]
    assert known.split_half is not None
    assert found.odd_even == known.split_half.jaccard
    assert found.halves.chance == known.split_half.chance
    assert found.read == known.prompts
    assert found.k == known.circuit.k


@pytest.mark.parametrize("rank", ["direct", "influence"])
def test_ranks_that_read_answers(demo: Any, rank: Any) -> None:
    options = DiscoveryOptions(rank=rank, universal=False)
    found = stability(*demo, options, resamples=5, others="magic")
    contrast, selection = options.prompts("demo"), options.selection("demo")
    known = run_discovery(*demo, contrast, selection)
    assert [one[:2] for one in found.neurons] == [n[:2] for n in known.circuit.neurons]
    assert known.split_half is not None
    assert found.odd_even == known.split_half.jaccard
    assert found.layers == known.circuit.provenance.layers
    assert [one.jaccard for one in found.others] == [1.0]
    assert found.bank is None


def test_the_frequencies_are_those_of_repeated_prompts(tiny: Any) -> None:
    resamples = 40
    found = stability(*tiny, PLAIN, resamples=resamples, seed=5)
    model, tokenizer = tiny
    contrast = OPTIONS.prompts("")
    texts = [*contrast.positive, *contrast.negative]
    ids = [render_prompt(tokenizer, text) for text in texts]
    layers = [np.array(a, np.float64) for _, a in last_activations(model, ids)]
    whole = np.concatenate(layers, axis=1)
    sides = np.split(whole, [len(contrast.positive)])
    ends = np.cumsum([0, *(part.shape[1] for part in layers)])

    def circuit(*rows: Any) -> Neurons:
        means = [side[row].mean(axis=0) for side, row in zip(sides, rows, strict=True)]
        best = np.argsort(-np.abs(means[0] - means[1]))[: found.k]
        places = [int(np.searchsorted(ends, one, "right")) - 1 for one in best]
        return {(at, int(one - ends[at])) for at, one in zip(places, best, strict=True)}

    random = np.random.default_rng(5)
    drawn = [
        circuit(*[random.integers(len(side), size=len(side)) for side in sides])
        for _ in range(resamples)
    ]
    full = circuit(slice(None), slice(None))
    assert {one[:2] for one in found.neurons} == full
    shares = [
        sum((one.layer, one.index) in own for own in drawn) / resamples
        for one in found.neurons
    ]
    frequencies = [one.frequency for one in found.neurons]
    # rounding may swap a near tie in one draw
    np.testing.assert_allclose(frequencies, shares, atol=1 / resamples + 1e-9)
    assert min(shares) < 0.7 < max(shares)
    overlaps = [jaccard(own, full) for own in drawn]
    assert found.bootstrap.mean == pytest.approx(fmean(overlaps), abs=0.005)
    assert found.bootstrap.low == pytest.approx(min(overlaps), abs=0.05)
    assert found.bootstrap.high == pytest.approx(max(overlaps), abs=0.05)
    assert found.chosen(0.9) == sum(one >= 0.9 for one in frequencies)
    assert sum(found.tenths()) == len(found.neurons)
    assert found.tenths()[9] == found.chosen(0.9)


def test_subsets_are_discoveries_of_these_prompts(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "PAIRS", 3)
    contrast = OPTIONS.prompts("")
    found = stability(*tiny, PLAIN, resamples=1)
    draws = resampling._draws(
        contrast.sizes, subset_sizes(contrast.sizes), resamples=1, seed=0
    )[4:]
    whole = members(discovered(tiny, PLAIN))
    for part in found.subsets:
        own, draws = draws[:6], draws[6:]
        circuits = [
            members(
                discovered(
                    tiny,
                    PLAIN,
                    PromptSet.from_prompts(
                        *(
                            [side[row] for row in rows]
                            for side, rows in zip(
                                (contrast.positive, contrast.negative),
                                draw,
                                strict=True,
                            )
                        )
                    ),
                )
            )
            for draw in own
        ]
        pairs = zip(circuits[::2], circuits[1::2], strict=True)
        disjoint = [jaccard(*pair) for pair in pairs]
        assert part.disjoint.mean == pytest.approx(fmean(disjoint), abs=0.02)
        assert part.disjoint.low == pytest.approx(min(disjoint), abs=0.04)
        with_all = fmean(jaccard(one, whole) for one in circuits)
        assert part.circuit.mean == pytest.approx(with_all, abs=0.02)
    assert draws == []


@pytest.mark.parametrize(
    ("sides", "sizes"),
    [
        ((100, 100), [(4, 4), (8, 8), (16, 16), (32, 32), (50, 50)]),
        ((200, 201), [*((4 << n, 4 << n) for n in range(5)), (100, 100)]),
        ((50, 20), [(4, 4), (8, 8), (25, 10)]),
        ((2, 9), [(1, 4)]),
    ],
)
def test_subsets_are_disjoint(
    sides: tuple[int, int], sizes: list[tuple[int, int]]
) -> None:
    assert subset_sizes(sides) == sizes
    draws = resampling._draws(sides, sizes, resamples=2, seed=1)
    assert len(draws) == 3 + 2 + 2 * resampling.PAIRS * len(sizes)
    subsets: Any = iter(draws[5:])
    for size in sizes:
        for _ in range(resampling.PAIRS):
            one, other = next(subsets), next(subsets)
            for side in (0, 1):
                rows = {*one[side].tolist(), *other[side].tolist()}
                assert len(rows) == 2 * size[side]
                assert max(rows) < sides[side]
    for resample in draws[3:5]:
        assert [len(rows) for rows in resample] == list(sides)


def test_other_contrasts_and_the_filter(tiny: Any) -> None:
    many = replace(OPTIONS, fraction=0.4)
    found = stability(*tiny, many, others=["flattery", "refusal-small"], resamples=9)
    known = discovered(tiny, many)
    assert known.circuit.universal_dropped
    for one in found.others:
        other = discovered(tiny, many, load_contrast(one.name))
        assert one.jaccard == pytest.approx(jaccard(members(known), members(other)))
    banked = [
        members(discovered(tiny, replace(many, universal=False), one))
        - (known.universal or set())
        for one in load_bank()
    ]
    overlaps = [jaccard(members(known), one) for one in banked]
    assert found.bank is not None
    assert found.bank.mean == pytest.approx(fmean(overlaps), abs=1e-3)
    raw = stability(*tiny, replace(many, universal=False), resamples=9)
    assert found.unfiltered is not None
    assert (found.unfiltered.bootstrap, found.unfiltered.halves) == (
        raw.bootstrap,
        raw.halves,
    )
    assert found.unfiltered.neurons == len(raw.neurons) == found.k
    assert len(found.neurons) == found.k - len(known.circuit.universal_dropped)
    assert (raw.unfiltered, raw.bank) == (None, None)


def test_a_fraction_s_halves_are_those_of_its_own_run(
    tiny: Any, found: Stability
) -> None:
    assert [one.fraction for one in found.fractions] == [0.001, 0.003, 0.01, 0.05]
    for one in found.fractions:
        own = stability(*tiny, replace(OPTIONS, fraction=one.fraction), resamples=1)
        assert own.k == one.k
        assert own.halves == one.halves
    assert all(one.k < other.k for one, other in pairwise(found.fractions))


def test_what_cannot_be_resampled(tiny: Any) -> None:
    with pytest.raises(InputError, match="eight prompts"):
        stability(*tiny, DiscoveryOptions(contrast="magic", rank="causal"))
    single = PromptSet.from_prompts(["a stone"], ["a bird", "a door"])
    with pytest.raises(InputError, match="two prompts a side"):
        stability(*tiny, DiscoveryOptions(contrast=single))
    with pytest.raises(InputError, match="resamples 0"):
        stability(*tiny, OPTIONS, resamples=0)


def test_the_sentences(found: Stability) -> None:
    lines = " ".join(stability_lines(found))
    assert f"{found.chosen(0.9)} of {len(found.neurons)} neurons" in lines
    assert f"overlap by {found.halves.mean:.2f}" in lines
    assert "flattery" in lines
    low = replace(found.subsets[-1], disjoint=Overlaps(0.2, 0.1, 0.3, 0.01))
    lines = " ".join(
        stability_lines(replace(found, subsets=(found.subsets[0], low), bank=None))
    )
    assert "depends on the prompts" in lines
    assert "any difference" not in lines


@pytest.mark.parametrize("width", [60, 100])
def test_the_view_fits(found: Stability, width: int) -> None:
    view_screen = make_screen(width, color=False, encoding="ascii")
    view_screen.show(stability_view(view_screen, found))
    text = sent(view_screen.out)
    assert max(map(len, text.splitlines())) <= width
    assert "\\u" not in text
    assert f"{found.subsets[0].disjoint.mean:.2f}" in text


def test_the_page(found: Stability, tmp_path: Path) -> None:
    write_stability_page(found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = stability_page(found)
    for line in (page.headline, *page.sentences):
        assert line in text
    assert "<script" not in text
    charts = [chart for section in page.sections for chart in section.charts]
    assert text.count("<figure>") == len(charts) == 3
    for one in found.subsets:
        assert f"{one.disjoint.mean:.2f}<small>" in text
    assert all(draw(chart).startswith("<svg") for chart in charts)
    table = page.sections[-1].tables[0]
    assert table.columns == ("rank", "layer", "neuron", "chosen in")
    names = [str(one.index) for one in found.neurons]
    assert [row[2].text for row in table.rows] == names


def test_neurons_of_experts_are_named_by_them(tmp_path: Path) -> None:
    model = load(str(write_demo_mixture(tmp_path / "mixture")))
    options = DiscoveryOptions(contrast="magic", fraction=0.001, universal=False)
    found = stability(*model, options, resamples=2)
    names = [f"{one.index // 512}:{one.index % 512}" for one in found.neurons]
    assert len({name.partition(":")[0] for name in names}) > 1
    assert [one.name for one in found.neurons] == names
    assert [one[3] for one in found.to_dict()["neurons"]] == names
    table = stability_page(found).sections[-1].tables[0]
    assert table.columns[2] == "expert:neuron"
    assert [row[2].text for row in table.rows] == names


def test_the_command(command: Any, tmp_path: Path) -> None:
    page = str(tmp_path / "page.html")
    wanted = ["--contrast", "sentiment", "--fraction", "0.05", "--no-universal"]
    done = command("stability", TINY, *wanted, "--out", page, "--json")
    assert done.code == 0
    assert done.data["page"] == page
    assert Path(page).is_file()
    assert done.data["bootstrap"].keys() == {"mean", "low", "high", "chance"}
    counts = [one[2] >= 0.9 for one in done.data["neurons"]]
    assert done.data["chosen_in_90_percent"] == sum(counts)
    shown = command("stability", TINY, *wanted)
    assert shown.code == 0
    assert "resamples of the prompts" in shown.out
    for options in (["--rank", "causal"], ["--other", "nothing"], ["--out", "/no/x"]):
        assert command("stability", TINY, *wanted, *options).code == 2
