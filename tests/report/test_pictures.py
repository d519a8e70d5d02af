"""Pictures of a report: every mark is where the figures say, and text is only text."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_runs import make_run, make_sample
from test_report import FILES, Page

from cna_mlx import Circuit
from cna_mlx.circuit import Details
from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import NEURONS, SEARCH, RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.provenance import ContrastEntry, Provenance
from cna_mlx.report.circuit_pictures import constellation, heat_map
from cna_mlx.report.content import Mark, Picture
from cna_mlx.report.search_pictures import front_table, layer_map, pareto
from cna_mlx.report.writing import write_report

OLD = Path(__file__).parents[1] / "data" / "version_0_1_0"
EVIL = "<script>alert(1)</script>\u202e"
NUMBER = r"-?[\d.]+"


def of(picture: Picture, *looks: str) -> list[Mark]:
    return [one for one in picture.marks if set(looks) <= set(one.look.split())]


def middle(d: str) -> tuple[float, float, float]:
    """Where a disc or a diamond is, and its area."""
    x, y, *rest = map(float, re.findall(NUMBER, d))
    if "a" in d:
        return x + rest[0], y, math.pi * rest[0] ** 2
    return x, y + rest[1], 2 * rest[1] ** 2


def rectangles(shape: Mark) -> np.ndarray:
    """x, y, width and height of each."""
    found = re.findall(rf"M({NUMBER}) ({NUMBER})h({NUMBER})v({NUMBER})", shape.d)
    return np.array(found, dtype=float).reshape(-1, 4)


def texts(picture: Picture) -> list[str]:
    return [label.text for label in picture.captions]


def a_circuit(scored: bool = False) -> Circuit:
    neurons = [(3, 7, 4.0), (0, 2, -1.0), (9, 5, 0.25), (3, 1, -4.0), (6, 6, 2.0)]
    circuit = Circuit.from_neurons(neurons)
    contrast = ContrastEntry("mine", "red", "blue")
    origin = Provenance(contrast=contrast, rank="influence")
    details = tuple(Details(score=5.0 - at) for at in range(5)) if scored else ()
    return replace(circuit, provenance=origin, details=details)


# ------------------------------------------------------------------- the constellation


def test_a_mark_is_at_its_layer_and_rank_and_as_large_as_its_delta() -> None:
    circuit = a_circuit()
    picture = constellation(circuit, 12)
    up, down = of(picture, "up")[1:], of(picture, "down")[1:]  # the first: the legend
    assert all("a" in one.d for one in up)
    assert not any("a" in one.d for one in down)
    marks = {one.said.split(",")[0]: middle(one.d) for one in (*up, *down)}
    assert len(marks) == 5
    drawn = [
        marks[f"rank {at}: layer {n.layer}"] for at, n in enumerate(circuit.neurons, 1)
    ]
    x, y, area = np.array(drawn).T
    layers = [neuron.layer for neuron in circuit.neurons]
    first, last = (label.x for label in picture.captions if label.text in ("0", "10"))
    assert np.allclose(x, first + np.array(layers) * (last - first) / 10, atol=0.15)
    assert np.allclose(np.diff(y), np.diff(y)[0], atol=0.15)
    large = np.array([abs(neuron.delta) for neuron in circuit.neurons]) >= 1
    assert np.allclose(area[large] / area[0], [1, 0.25, 1, 0.5], atol=0.03)
    assert "3 are higher on the red prompts, 2 lower" in picture.alt
    assert "1 in its last third, most in layer 3 (2)" in picture.alt
    assert x.max() < picture.width
    assert y.max() < picture.height


def test_no_layer_is_named_where_two_have_the_most_neurons() -> None:
    circuit = Circuit.from_neurons([(0, 1, 2.0), (3, 1, 2.0), (3, 2, 1.0), (0, 2, 1.0)])
    alt = constellation(circuit, 12).alt
    assert "0 in its last third, 2 at most in a layer." in alt


def test_a_score_is_a_second_axis() -> None:
    picture = constellation(a_circuit(scored=True), 12)
    assert [text for text in texts(picture) if text == "influence"] == ["influence"]
    rows = {label.y: label.text for label in picture.captions if label.look == "end"}
    pairs = [
        (rows[label.y], label.text)
        for label in picture.captions
        if label.y in rows and label.look == ""
    ]
    assert pairs == [("1", "5"), ("2", "4"), ("3", "3"), ("4", "2"), ("5", "1")]
    assert "influence" not in texts(constellation(a_circuit(), 12))


def test_a_large_circuit_is_cut_and_says_so() -> None:
    circuit = Circuit.from_neurons((at % 30, at, 1.0) for at in range(1500))
    picture = constellation(circuit, 30)
    assert len(of(picture, "up")) == 1 + 1000
    assert "Only the first 1,000 are drawn." in picture.note
    assert "1,500 neurons" in picture.alt


# ------------------------------------------------------------------------ the heat map


def prompts(count: int) -> list[Sample]:
    from evaluation_runs import ANSWER, BASELINE, REFUSAL

    gauges = np.random.default_rng(1).random(count).tolist()
    return [
        make_sample(
            BASELINE,
            number,
            "benign" if number % 3 == 0 else "harmful",
            REFUSAL if number % 2 else ANSWER,
            gauge=gauge,
        )
        for number, gauge in enumerate(gauges)
    ]


def test_a_cell_is_the_activation_of_a_neuron_on_a_prompt() -> None:
    samples = prompts(12)
    values = np.random.default_rng(0).normal(size=(4, 12)) * [[1], [100], [0], [0.01]]
    neurons = [[8, 1], [2, 5], [8, 0], [5, 5]]
    data = {"neurons": neurons, "prompts": [*range(12)], "activations": values.tolist()}
    picture = heat_map(data, samples)
    order = sorted(samples, key=lambda one: (one.kind == "benign", -(one.gauge or 0)))
    rows = values[[1, 3, 0, 2]]
    std = np.where(rows.std(axis=1), rows.std(axis=1), 1)
    z = ((rows.T - rows.mean(axis=1)) / std).T
    frames = [rectangles(one)[0] for one in of(picture, "frame")]
    assert [
        len([one for one in samples if one.kind == kind])
        for kind in ("harmful", "benign")
    ] == [8, 4]
    width, height = frames[0][2] / 8, frames[0][3] / 4
    for row in range(4):
        for column, sample in enumerate(order):
            frame, at = (frames[0], column) if column < 8 else (frames[1], column - 8)
            x, y = frame[0] + (at + 0.5) * width, frame[1] + (row + 0.5) * height
            wanted = round((np.clip(z[row, sample.number], -2, 2) + 2) / 4 * 6)
            assert shade_at(picture, x, y) == wanted
    marked = sum(rectangles(one)[:, 2].sum() for one in of(picture, "ink"))
    assert marked / width == pytest.approx(sum(s.is_refused for s in samples), abs=0.1)
    names = [text for text in texts(picture) if text.startswith("layer ")]
    assert names == ["layer 2", "layer 5", "layer 8"]
    assert {"harmful (8)", "benign (4)"} <= set(texts(picture))


def shade_at(picture: Picture, x: float, y: float) -> int:
    found = [
        int(one.look[5])
        for one in picture.marks
        if one.look.startswith("shade") and "edge" not in one.look
        for left, top, width, height in rectangles(one)
        if left <= x < left + width and top <= y < top + height
    ]
    assert len(found) <= 1
    return found[0] if found else 0


# --------------------------------------------------------------------------- a search


def tried(lost: int, kl: float, **changes: Any) -> dict[str, Any]:
    return {
        "rank": "influence",
        "layers": [0, 7],
        "fraction": 0.01,
        "neurons": 40 + lost,
        "intervention": {"kind": "scale", "value": 0.0},
        "is_paper": False,
        "refusals": 20,
        "lost": lost,
        "ruined": 0,
        "kl": kl,
        "quality": 0.97,
        "benign": 5,
        "changed": 2,
        **changes,
    }


def a_search() -> dict[str, Any]:
    paper = tried(1, 1.44, is_paper=True, rank="delta")
    front = [tried(4, 0.01), tried(15, 0.16), tried(18, 0.64)]
    early = tried(2, 0.36, refusals=5)
    layers = {
        "delta": [[[3, 8.0], [1, 4.1], [0, 1.0]], [[2, 2.0], [5, 0.2], [7, 0.1]]],
        "influence": [[[1, 0.5], [3, 0.2]], []],
    }
    return {
        "tried": [paper, *front, early],
        "front": front,
        "chosen": front[1],
        "max_kl": 0.4,
        "layers": layers,
    }


def test_a_circuit_is_at_its_kl_and_its_lost_refusals() -> None:
    data = a_search()
    picture = pareto(data)
    dots = [one for one in of(picture, "tried") if one.said]
    assert len(dots) == len(data["tried"])
    assert len([one for one in of(picture, "early") if one.said]) == 1
    x, y, _ = np.array([middle(one.d) for one in dots]).T
    roots = np.sqrt([one["kl"] for one in data["tried"]])
    shares = np.array([one["lost"] / one["refusals"] for one in data["tried"]])
    fits = [np.polyfit(*pair, 1) for pair in ((roots, x), (shares, y))]
    assert np.allclose(np.polyval(fits[0], roots), x, atol=0.15)
    assert np.allclose(np.polyval(fits[1], shares), y, atol=0.15)
    assert fits[0][0] > 0 > fits[1][0]
    ends = {label.text: label for label in picture.captions}
    assert np.polyval(fits[0], 0) == pytest.approx(ends["0"].x, abs=0.3)
    assert np.polyval(fits[0], np.sqrt(0.8)) == pytest.approx(ends["0.8"].x, abs=0.3)
    assert np.polyval(fits[1], 0.75) == pytest.approx(ends["75%"].y - 4, abs=0.3)
    (limit,) = of(picture, "limit")
    assert float(limit.d[1:].split()[0]) == pytest.approx(
        np.polyval(fits[0], np.sqrt(0.4)), abs=0.3
    )
    (front,) = of(picture, "front")
    across = [float(one) for one in re.findall(rf"H({NUMBER})", front.d)]
    up = [float(one) for one in re.findall(rf"V({NUMBER})", front.d)]
    assert np.allclose(across[:2], x[2:4], atol=0.15)
    assert np.allclose(up, y[2:4], atol=0.15)
    for look, at in (("chosen", 2), ("paper", 0)):
        mark = next(one for one in of(picture, look) if one.said)
        if look == "chosen":
            assert middle(mark.d)[:2] == pytest.approx((x[at], y[at]), abs=0.3)
        else:
            left, top, width, height = rectangles(mark)[0]
            place = (left + width / 2, top + height / 2)
            assert place == pytest.approx((x[at], y[at]), abs=0.3)
    assert "chosen: 55 neurons by influence, layers 0-7" in texts(picture)
    assert "the paper's: 41 neurons by delta, layers 0-7" in texts(picture)
    assert "15 of 20 refusals lost, KL 0.16" in picture.alt


@pytest.mark.parametrize("kl", [0.0, 0.05, 0.16, 0.3, 0.4])
def test_the_name_of_the_chosen_circuit_is_not_cut_off(kl: float) -> None:
    data = a_search()
    strong = {"kind": "scale", "value": -0.5}
    chosen = {**data["chosen"], "kl": kl, "intervention": strong, "layers": [10, 19]}
    picture = pareto({**data, "tried": [*data["tried"], chosen], "chosen": chosen})
    (name,) = (one for one in picture.captions if one.text.startswith("chosen: "))
    assert name.text.endswith("layers 10-19, m=-0.5")
    assert "end" not in name.look
    assert 0 <= name.x <= picture.width - 7.5 * len(name.text)


def test_the_limit_is_named_above_a_chosen_circuit_that_loses_all() -> None:
    data = a_search()
    chosen = {**data["chosen"], "lost": data["chosen"]["refusals"], "kl": 0.3}
    picture = pareto({**data, "tried": [*data["tried"], chosen], "chosen": chosen})
    heights = {
        one.text.partition(":")[0]: one.y
        for one in picture.captions
        if one.text.startswith(("KL allowed", "chosen: "))
    }
    assert heights["KL allowed"] + 16 < heights["chosen"]


def test_a_search_that_chose_nothing_is_drawn() -> None:
    picture = pareto({**a_search(), "chosen": None})
    assert "none chosen" in picture.alt
    assert not [one for one in of(picture, "chosen") if one.said]


def test_the_paper_s_circuit_may_be_the_chosen_one() -> None:
    data = a_search()
    said = texts(pareto({**data, "chosen": data["tried"][0]}))
    named = [text for text in said if "neurons by" in text]
    assert named == ["chosen, the paper's: 41 neurons by delta, layers 0-7"]


def test_the_front_is_also_a_table() -> None:
    rows = [[str(cell) for cell in row] for row in front_table(a_search()).rows]
    assert [row[1] for row in rows] == [
        "4 of 20",
        "15 of 20",
        "18 of 20",
        "1 of 20",
    ]
    assert rows[1][0].endswith("(chosen)")
    assert rows[3][0].endswith("(the paper's, not on the front)")


def test_a_shade_of_the_map_is_half_of_the_next() -> None:
    circuit = Circuit.from_neurons([(0, 1, 1.0), (1, 5, 1.0), (1, 9, 1.0)])
    picture = layer_map(a_search()["layers"], circuit)
    (left, top, wide, high), (other, *_) = (
        rectangles(one)[0] for one in of(picture, "frame")
    )
    width, height = wide / 3, high / 2
    # 8 of 8, 4.1 and 1 (an eighth); 2 (a quarter), a fortieth, an eightieth
    wanted = [[6, 6, 3], [4, 1, 0]]
    for layer, row in enumerate(wanted):
        for rank, shade in enumerate(row):
            place = left + (rank + 0.5) * width, top + (layer + 0.5) * height
            assert shade_at(picture, *place) == shade
    places = [other + (at + 0.5) * width for at in range(3)]
    assert [shade_at(picture, place, top + 1) for place in places] == [6, 5, 0]
    assert "not scored" in texts(picture)
    dots = [
        middle(f"M{one}")
        for shape in of(picture, "dot")
        for one in shape.d.split("M")[1:]
    ]
    assert [(round(x), round(y)) for x, y, _ in dots] == [
        (round(start + (rank + 0.5) * width), round(top + (layer + 0.5) * height))
        for start, rank, layer in ((left, 1, 0), (left, 1, 1), (other, 0, 0))
    ]


# ------------------------------------------------------------------------------ a page


def kept(run: RunRecord) -> None:
    """What a search and its run leave, with text of a model that means no good."""
    firing = {
        "activation": -1.5,
        "source": f"harmful, {EVIL}",
        "position": 12,
        "before": f"secret before\n{EVIL}",
        "token": EVIL,
        "after": "secret after",
    }
    written = {"promotes": [EVIL, "\n"], "suppresses": [" no"]}
    page = {"layer": 0, "index": 0, "written": written}
    pages = [{**page, "highest": [firing], "lowest": [firing]}]
    neurons = {
        "neurons": [[0, 0], [1, 1]],
        "prompts": [0, 5, 9],
        "activations": [[0.1, 0.5, 2.0], [1, 1, 1]],
        "pages": pages,
    }
    run.keep(NEURONS, neurons)
    run.keep(SEARCH, a_search())


@pytest.mark.parametrize("level", ["hidden", "excerpts", "full"])
def test_text_of_a_model_is_only_text(tmp_path: Path, level: Any) -> None:
    run = make_run(tmp_path / "run")
    kept(run)
    write_report(run, level=level)
    found = {name: (tmp_path / "run" / name).read_text() for name in FILES}
    text = found["report.html"]
    page = Page(text)
    assert EVIL[:-1] not in text
    assert "\u202e" not in "".join(found.values())
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert EVIL[:-1] in page.text
    assert "<script>" not in found["report.md"]
    is_shown = level != "hidden"
    assert ("secret before\\n" in page.text) is is_shown
    assert ("secret after" in page.text) is is_shown
    assert page.text.count("\u22121.50") == 2


def test_every_picture_says_what_it_shows(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    kept(run)
    write_report(run)
    page = Page((run.directory / "report.html").read_text())
    pictures = page.attributes("svg", "aria-labelledby")
    assert len(pictures) == 4
    ids = page.attributes("title", "id") + page.attributes("desc", "id")
    assert len(set(ids)) == len(ids)
    assert {one for names in pictures for one in names.split()} == set(ids)
    assert set(page.attributes("svg", "role")) == {"img"}
    assert page.attributes("path", "style") == []
    boxes = [one for one in page.attributes("svg", "viewbox") if "640" in one]
    assert len(boxes) == 4
    markdown = (run.directory / "report.md").read_text()
    assert "5 circuits tried; chosen: 55 neurons by influence" in markdown
    assert "### The first neurons" in markdown.replace("## ", "### ")


def test_a_run_without_these_files_has_its_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_report(run)
    text = (run.directory / "report.html").read_text()
    assert 'id="run-1-circuit"' in text
    assert 'id="run-1-search"' not in text
    assert 'id="run-1-neurons"' not in text
    for path in (run.directory / "circuits").iterdir():
        path.unlink()
    write_report(run)
    assert 'id="run-1-circuit"' not in (run.directory / "report.html").read_text()


def test_a_run_of_version_0_1_shows_its_circuit(tmp_path: Path) -> None:
    run = RunRecord.load(next(OLD.glob("eval-demo-*")))
    write_report(run, tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    marks = [one for one in page.attributes("path", "class") if one in ("up", "down")]
    assert len(marks) == len(run.circuits["circuit"].neurons) + 2


@pytest.mark.parametrize("name", [NEURONS, SEARCH])
@pytest.mark.parametrize("text", ["{", '{"kind": "other"}', None])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str | None) -> None:
    run = make_run(tmp_path / "run")
    kept(run)
    path = run.directory / name
    whole = json.loads(path.read_text())
    head = {key: whole[key] for key in ("kind", "format")}
    path.write_text(json.dumps(head) if text is None else text)
    with pytest.raises(InputError, match=re.escape(str(path))):
        write_report(run)


def test_a_circuit_file_has_a_page(command: Any, tmp_path: Path) -> None:
    file, page = tmp_path / "c.json", tmp_path / "c.html"
    a_circuit(scored=True).save(file)
    shown = command("circuit", "show", str(file), "--out", str(page), "--json")
    assert shown.code == 0
    assert shown.data["page"] == str(page)
    shown = command("circuit", "show", str(file), "--out", str(page), "--force")
    assert f"page: {page}" in shown.out
    found = Page(page.read_text())
    assert found.attributes("path", "class").count("up") == 1 + 3
    assert "5 neurons in layers 0 to 9" in found.text
    empty = command("circuit", "show", str(file), "--out", str(tmp_path / "no" / "c"))
    assert (empty.code, "no directory" in empty.failure) == (2, True)
    Circuit(()).save(file)
    empty = command("circuit", "show", str(file), "--out", str(page), "--force")
    assert (empty.code, "no neurons to draw" in empty.failure) == (2, True)
