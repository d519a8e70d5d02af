"""The library as a caller in Python uses it: values in, values out, no terminal."""

from pathlib import Path
from typing import Any

import pytest
from commandline import NEGATIVE, POSITIVE
from evaluation_runs import make_run

from cna_mlx import (
    Benchmark,
    Circuit,
    CnaError,
    EvalOptions,
    PromptSet,
    Reporter,
    Run,
    audit,
    compare,
    discover,
    evaluate,
    label,
    probe,
    write_report,
)
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CircuitError
from cna_mlx.util.rows import html_table

CONTRAST = PromptSet.from_prompts(POSITIVE, NEGATIVE, "red-vs-blue")
QUESTIONS = Benchmark.from_prompts(["five red cats", "six <b>blue</b> cats"])
SHORT = EvalOptions(max_tokens=3, seeds=1, has_kl=False, batch=1)


@pytest.fixture(name="circuit")
def circuit_fixture(circuit_text: str) -> Circuit:
    return Circuit.from_text(circuit_text, "here")


def test_discover_takes_prompts_or_a_contrast(tiny: Any) -> None:
    wanted = {"fraction": 0.05, "universal": False}
    found = discover(*tiny, POSITIVE, NEGATIVE, **wanted)
    assert discover(*tiny, contrast=CONTRAST, **wanted).neurons == found.neurons
    for given in ({}, {"positive": POSITIVE, "contrast": CONTRAST}):
        with pytest.raises(CnaError, match="contrast"):
            discover(*tiny, **given)


def test_a_circuit_s_file_may_be_a_path(
    tiny: Any, circuit: Circuit, circuit_file: Path, tmp_path: Path
) -> None:
    typed = circuit_file.with_name(f"{circuit_file.name}@0.5")
    for file, multiplier in ((circuit_file, None), (typed, 0.5)):
        chosen = Session.of(*tiny).choose(file)
        assert chosen.circuit.neurons == circuit.neurons
        assert (chosen.multiplier, chosen.name) == (multiplier, str(circuit_file))
    with pytest.raises(CircuitError, match="missing"):
        audit("demo", circuits=tmp_path / "missing.json", out=tmp_path / "run")


def test_probe_ranks_prompts(tiny: Any, circuit: Circuit) -> None:
    found = probe(*tiny, circuit, [*NEGATIVE, *POSITIVE])
    gauges = [row["gauge"] for row in found.rows()]
    assert gauges == sorted(gauges, reverse=True)
    assert found.to_dict()["results"] == found.rows()
    assert found.is_calibrated


def test_an_evaluation_stops_and_goes_on(
    tiny: Any, circuit: Circuit, tmp_path: Path
) -> None:
    told: list[str] = []
    steps: list[int] = []

    class Watched:
        def __enter__(self) -> Any:
            steps.clear()  # of the work before
            return lambda task, done, total: steps.append(done)

        def __exit__(self, *error: object) -> None:
            pass

    reporter = Reporter(
        note=told.append,
        progress=lambda unit: Watched(),
        stop=lambda: max(steps, default=0) >= 1,
    )
    place = {"options": SHORT, "contrast": CONTRAST, "out": tmp_path / "run"}
    cut = evaluate(*tiny, circuit, QUESTIONS, reporter=reporter, **place)
    before = cut.samples()
    assert (cut.status, len(before)) == ("interrupted", len(cut.arms))
    assert any("2 prompts" in line for line in told)
    whole = evaluate(*tiny, circuit, QUESTIONS, **place)
    assert whole.status == "complete"
    assert whole.samples()[: len(before)] == before
    assert Run.open(tmp_path / "run").rows() == whole.rows()


def test_ctrl_c_keeps_the_batches(
    tiny: Any, circuit: Circuit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("cna_mlx.evaluation.runner.answer_group", pressed)
    run = evaluate(
        *tiny, circuit, QUESTIONS, options=SHORT, contrast=CONTRAST, out=tmp_path / "r"
    )
    assert (run.status, run.samples()) == ("interrupted", [])


def test_values_say_what_they_are(circuit: Circuit, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert repr(run).startswith(f"Run('{tmp_path / 'run'}': complete, 12 of 12")
    assert "baseline 100%" in repr(run.summary())
    assert repr(circuit).startswith(f"Circuit({len(circuit.neurons)} neurons of layers")
    assert repr(Circuit(())) == "Circuit(0 neurons, of no known model)"
    assert len(circuit.rows()) == len(circuit.neurons)
    for value in (run, run.summary(), circuit):
        assert value._repr_html_().startswith("<table>")


def test_tables_escape_every_cell() -> None:
    shown = html_table([{"<a>": "<script>", "b": None, "c": 0.123456}])
    assert "<script>" not in shown
    assert "<a>" not in shown
    assert "<td>&lt;script&gt;</td><td></td><td>0.1235</td>" in shown
    assert "5 more rows" in html_table([{"n": n} for n in range(105)])
    assert html_table([]) == "<p>no rows</p>"


def test_rows_are_flat(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run = Run.of(run)
    plain = (str, int, float, bool, type(None))
    for rows in (run.rows(), run.summary().rows()):
        assert len({tuple(row) for row in rows}) == 1
        assert all(isinstance(value, plain) for row in rows for value in row.values())
    assert len(run.rows()) == len(run.samples())


def test_runs_are_compared_and_reported(tmp_path: Path) -> None:
    runs = [Run.of(make_run(tmp_path / name)) for name in "ab"]
    found = compare(*runs)
    assert found.prompts == 12
    assert found.to_dict()["overlap"]["jaccard"] == 1.0
    with pytest.raises(CnaError, match="two of a kind"):
        compare(runs[0], "demo")
    with pytest.raises(CnaError, match="directory"):
        write_report(runs)
    report = write_report(runs, tmp_path / "report", level="hidden")
    assert all(path.is_file() for path in report.files.values())
    assert write_report(runs[0]).html.parent == runs[0].directory


def test_a_label_has_its_span() -> None:
    found = label("I'm sorry, but I can't help with that.")
    assert found.kind == "REFUSED"
    assert found.span
