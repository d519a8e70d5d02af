"""The circuit and its file: what is written is read, and nothing else is believed."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cna_mlx.circuit import Circuit, Moments, Neuron
from cna_mlx.discovery.discover import discover
from cna_mlx.errors import CircuitError, InputError, TransferError
from cna_mlx.models.families import widths
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.provenance import ContrastEntry, ModelEntry, Provenance
from cna_mlx.util.files import write_atomically


@pytest.fixture(scope="module")
def found(llama: Any, tokenizer: Any) -> Circuit:
    """A circuit as discovery leaves it."""
    return discover(
        llama,
        tokenizer,
        ["Stop that!", "No, no.", "Süßöl €5?"],
        ["What is it?", "How so?", "Who, me?"],
        0.02,
        universal=False,
        rendering=Rendering(system='A "quoted"\nprompt.'),
    )


def data_of(circuit: Circuit) -> Any:
    return json.loads(circuit.to_text())


def read(data: Any) -> Circuit:
    return Circuit.from_text(json.dumps(data), "c.json")


def refused(text: str) -> str:
    """The one line that the text is refused with."""
    with pytest.raises(CircuitError) as caught:
        Circuit.from_text(text, "c.json")
    message = str(caught.value)
    assert message.startswith("c.json: ")
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


# --- round trip -----------------------------------------------------------------------


def test_round_trip(found: Circuit, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    found.save(path)
    again = Circuit.load(path)
    assert again == found
    assert again.to_text() == found.to_text()
    assert all(isinstance(neuron, Neuron) for neuron in again.neurons)
    assert all(isinstance(moments, Moments) for moments in again.moments)
    rendering = Rendering.from_dict(again.provenance.to_dict()["rendering"])
    assert rendering.system == 'A "quoted"\nprompt.'


def test_the_file_is_readable(found: Circuit) -> None:
    data = data_of(found)
    assert data["format"] == 1
    assert data["columns"][:3] == ["layer", "index", "delta"]
    assert len(data["columns"]) == 7
    assert data["model"]["d_ff"] == [128] * 3
    for key in ("id", "revision", "fingerprint", "architecture", "quantization"):
        assert key in data["model"]
    for key in ("contrast", "rendering", "fraction", "universal_dropped", "versions"):
        assert key in data
    assert {"name", "positive", "negative", "sha256"} <= set(data["contrast"])
    lines = found.to_text().splitlines()
    first = found.neurons[0]
    assert sum(line.lstrip().startswith("[") for line in lines) >= len(found.neurons)
    assert any(line.strip().startswith(f"[{first[0]}, {first[1]},") for line in lines)


def test_a_circuit_made_by_hand(tmp_path: Path) -> None:
    circuit = Circuit.from_neurons([(0, 5), [2, 7, -1.5], (1, 0.0, 3)])
    assert circuit.neurons == (
        Neuron(0, 5, 0.0),
        Neuron(2, 7, -1.5),
        Neuron(1, 0, 3.0),
    )
    assert circuit.model == ModelEntry()
    circuit.save(tmp_path / "c.json")
    assert Circuit.load(tmp_path / "c.json") == circuit
    circuit.check_model((8, 8, 8), "any")  # only ranges are checked
    with pytest.raises(CircuitError, match="neuron 7 of layer 2"):
        circuit.check_model((8, 8, 7), "any")
    with pytest.raises(CircuitError, match="layer 2"):
        circuit.check_model((8, 8), "any", allow_transfer=True)


@pytest.mark.parametrize(
    "entry",
    [
        (1,),
        (1, 2, 3.0, 4.0),
        (0.5, 1),
        (-1, 0),
        (0, -1),
        (float("nan"), 1),
        (0, 1, float("inf")),
        ("0", 1),
        (True, 1),
        5,
        "ab",
        None,
    ],
)
def test_entries_that_are_no_neurons(entry: Any) -> None:
    with pytest.raises(CircuitError, match="from_neurons: neuron 1"):
        Circuit.from_neurons([(0, 0), entry])


def test_duplicates_are_refused(found: Circuit) -> None:
    with pytest.raises(CircuitError, match=r"\[1, 2\]"):
        Circuit.from_neurons([(1, 2, 0.5), (0, 2), (1, 2, 0.7)])
    data = data_of(found)
    data["neurons"].append(data["neurons"][0])
    assert "is repeated" in refused(json.dumps(data))


def test_an_empty_circuit(tmp_path: Path) -> None:
    empty = Circuit.from_neurons([])
    empty.save(tmp_path / "c.json")
    assert Circuit.load(tmp_path / "c.json") == empty
    empty.check_shape((3, 3))


def test_by_layer_and_strongest(found: Circuit) -> None:
    assert sorted(n for ns in found.by_layer().values() for n in ns) == sorted(
        found.neurons
    )
    assert list(found.by_layer()) == sorted(found.by_layer())
    cut = found.strongest(3)
    assert cut.neurons == found.neurons[:3]
    assert cut.moments == found.moments[:3]
    assert Circuit.from_text(cut.to_text(), "c.json") == cut


# --- files that are no circuits -------------------------------------------------------


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "none.json", "no such circuit file"),
        (tmp_path, "cannot be read"),
        ("~nobody-has-this-name/c.json", "no such user"),
    ):
        with pytest.raises(CircuitError, match=message):
            Circuit.load(path)
    binary = tmp_path / "binary.json"
    binary.write_bytes(b'{"kind": "\xff\xfe"}')
    with pytest.raises(CircuitError, match="not UTF-8"):
        Circuit.load(binary)


def test_every_cut_is_refused(found: Circuit) -> None:
    text = found.strongest(2).to_text().rstrip()
    for length in range(len(text)):
        assert "JSON" in refused(text[:length])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[" * 100_000,
        '{"format": ' + "9" * 5000 + "}",
        "\ufeff{}",
        "{'kind': 1}",
    ],
    ids=["empty", "prose", "deep", "digits", "bom", "quotes"],
)
def test_not_json(text: str) -> None:
    assert "not JSON" in refused(text)


def test_json_of_another_kind(found: Circuit) -> None:
    for other in ([], {}, 5, None, "x", {"kind": "something"}, {"format": 1}):
        assert "not a cna-mlx circuit" in refused(json.dumps(other))


def test_formats(found: Circuit) -> None:
    data = data_of(found)
    data["format"] = 3
    assert "format 3 is newer" in refused(json.dumps(data))
    for unknown in (0, -1, "1", 1.0, None, True, [1]):
        data["format"] = unknown
        assert "is unknown" in refused(json.dumps(data))
    del data["format"]
    assert "is unknown" in refused(json.dumps(data))


WRONG = (None, True, -1, 0, 1e400, 2.5, 10**30, "x", "", [], [None], [[]], {}, {"a": 1})


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(2, len(value))):
            yield from _places(value[index], (*path, index))


def _with(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(data))
    target = copy
    for step in path[:-1]:
        target = target[step]
    if value is _with:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return copy


def _outcome(text: str) -> str:
    """What comes of a file; any error but the circuit's own is the test's failure."""
    try:
        circuit = Circuit.from_text(text, "c.json")
        assert circuit.k >= len(circuit.neurons)
        circuit.by_layer()
        circuit.check_model((128, 128, 128), "other", allow_transfer=True)
        circuit.check_model((128, 128, 128), "other")
    except CircuitError:
        return "refused"
    return "read"


def test_no_field_of_a_wrong_type_does_harm(found: Circuit) -> None:
    """Either it is refused as a circuit, or everything that reads it works."""
    data = data_of(found)
    data["universal_dropped"] = [[0, 1], [2, 3]]
    outcomes = {"refused": 0, "read": 0}
    for path in _places(data):
        for value in (*WRONG, _with):
            text = json.dumps(_with(data, path, value))
            outcomes[_outcome(text)] += 1
    assert outcomes["refused"] > 300
    assert Circuit.from_text(json.dumps(data), "c.json").k == len(found.neurons) + 2


@pytest.mark.parametrize("column", range(7))
@pytest.mark.parametrize("value", [None, True, "1", [1], {}, float("nan"), 1e400])
def test_no_cell_of_a_wrong_type_is_read(
    found: Circuit, column: int, value: Any
) -> None:
    assert "neuron 1" in refused(
        json.dumps(_with(data_of(found), ("neurons", 1, column), value))
    )


def test_rows_have_as_many_cells_as_columns(found: Circuit) -> None:
    data = data_of(found)
    for row in (data["neurons"][0][:6], [*data["neurons"][0], 1.0], []):
        assert "neuron 0" in refused(json.dumps(_with(data, ("neurons", 0), row)))


# --- does it fit the model? -----------------------------------------------------------


def test_the_model_it_was_made_on(found: Circuit, llama: Any) -> None:
    found.check_model(widths(llama), fingerprint(llama))


def test_another_shape_is_never_taken(found: Circuit) -> None:
    for sizes in ((128, 128), (128, 128, 128, 128), (160, 160, 160), (128, 128, 64)):
        for transfer in (False, True):
            with pytest.raises(CircuitError, match=r"\b3 layers of 128") as caught:
                found.check_model(sizes, "other", transfer)
            assert not isinstance(caught.value, TransferError)
            assert "this model has" in str(caught.value)


def test_other_weights_need_leave(found: Circuit, build: Any) -> None:
    for other in (build("llama", seed=1), build("llama", "4-bit")):
        with pytest.raises(TransferError, match="--allow-transfer") as caught:
            found.check_model(widths(other), fingerprint(other))
        assert caught.value.exit_code == 2
        found.check_model(widths(other), fingerprint(other), allow_transfer=True)


def test_a_circuit_out_of_range(found: Circuit) -> None:
    data = _with(data_of(found), ("neurons", 0, 1), 128)
    with pytest.raises(CircuitError, match="neuron 128"):
        read(data).check_shape((128, 128, 128))


# --- writing --------------------------------------------------------------------------


def test_writing_is_atomic(
    found: Circuit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.json"
    found.save(path)
    old = path.read_text()

    def fail(self: Path, target: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(InputError, match="No space left on device"):
            found.strongest(1).save(path)
    assert path.read_text() == old
    assert list(tmp_path.iterdir()) == [path]  # nothing half-written is left behind
    found.strongest(1).save(path)
    assert Circuit.load(path) == found.strongest(1)


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "c.json", "text")
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written(found: Circuit, tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "c.json", tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            found.save(path)


def test_the_mode_is_that_of_any_file(found: Circuit, tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        found.save(tmp_path / "c.json")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "c.json").stat().st_mode) == 0o640


def test_names_that_are_no_text(found: Circuit, tmp_path: Path) -> None:
    """A prompt file's name may hold bytes that are not UTF-8."""
    odd = Circuit(found.neurons, provenance=Provenance(ContrastEntry("a\udcff")))
    odd.save(tmp_path / "c.json")
    assert Circuit.load(tmp_path / "c.json") == odd
