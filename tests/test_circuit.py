"""The circuit and its file: what is written is read, and nothing else is believed."""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cna_mlx.analysis.circuit_overlap import compare_circuits
from cna_mlx.circuit import Circuit, Details, Moments, Neuron
from cna_mlx.circuit_profile import routing
from cna_mlx.circuit_sets import check_one_model
from cna_mlx.discovery.discover import discover
from cna_mlx.errors import CircuitError, InputError, TransferError
from cna_mlx.models.families import widths
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.provenance import ContrastEntry, ModelEntry, Provenance
from cna_mlx.strength import Pin, Strength, as_typed, parse_strength, to_intervention
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


# --- format 2 -------------------------------------------------------------------------

INTERVENTIONS = (0.5, -2.0, Pin(0.25), Pin(kind="mean"), Pin())


# Of each of the three layers: two experts, and shared neurons.
EXPERTS = ((2, 48, 1),) * 3


def detailed(found: Circuit) -> Circuit:
    """The circuit with everything that format 2 has room for."""
    details = tuple(
        Details(n / 8, None, -n / 4, n / 16, n / 32) for n in range(len(found.neurons))
    )
    mixed = replace(found.model, experts=EXPERTS)
    return replace(found, model=mixed, details=details, intervention=Pin())


def test_a_circuit_that_uses_nothing_of_format_2_is_written_as_before(
    found: Circuit,
) -> None:
    empty = tuple(Details() for _ in found.neurons)
    assert replace(found, details=empty).to_text() == found.to_text()
    data = data_of(found)
    data["format"] = 2  # nor is format 2 needed to read it
    assert read(data) == found
    assert read(data).to_text() == found.to_text()


@pytest.mark.parametrize("strength", INTERVENTIONS, ids=as_typed)
def test_the_head_carries_a_strength(found: Circuit, strength: Strength) -> None:
    circuit = replace(detailed(found), intervention=strength)
    data = data_of(circuit)
    assert data["format"] == 2
    assert data["intervention"] == to_intervention(strength)
    assert read(data) == circuit
    assert read(data).to_text() == circuit.to_text()


@pytest.mark.parametrize("moments", [True, False])
@pytest.mark.parametrize("columns", ["score", "expert", "shift", "score shift", "all"])
def test_further_columns(found: Circuit, moments: bool, columns: str) -> None:
    names = Details._fields if columns == "all" else tuple(columns.split())
    full = detailed(found)
    details = tuple(
        Details(**{name: getattr(one, name) for name in names}) for one in full.details
    )
    model = full.model if "expert" in names else found.model
    has_values = any(one != Details() for one in details)
    circuit = replace(found, model=model, details=details if has_values else ())
    circuit = circuit if moments else replace(circuit, moments=())
    data = data_of(circuit)
    assert data["format"] == 2
    assert data["columns"] == [
        *data_of(found)["columns"][: 7 if moments else 3],
        *names,
    ]
    assert read(data) == circuit
    assert read(data).to_text() == circuit.to_text()
    assert read(data).strongest(2) == circuit.strongest(2)
    assert circuit.rows()[0].keys() >= set(names)


def test_columns_that_are_not_of_the_format(found: Circuit) -> None:
    data = data_of(detailed(found))
    data["format"] = 1
    assert "unknown columns" in refused(json.dumps(data))
    data["format"] = 2
    plain, further = data["columns"][:7], data["columns"][7:]
    for columns in (
        [*plain, *further[::-1]],
        [*plain, "score", "score"],
        [*plain, "gain"],
        [*plain[:5], *further],
        [*further, *plain],
        [*plain[:3], *further, *plain[3:]],
        {name: name for name in plain},
        "layer",
        [["layer"]],
    ):
        data["columns"] = columns
        assert "unknown columns" in refused(json.dumps(data))


@pytest.mark.parametrize("column", [7, 8, 9])
@pytest.mark.parametrize("value", [True, "1", [1], {}, float("nan"), 1e400, 10**400])
def test_no_further_cell_of_a_wrong_type_is_read(
    found: Circuit, column: int, value: Any
) -> None:
    data = _with(data_of(detailed(found)), ("neurons", 1, column), value)
    assert "neuron 1" in refused(json.dumps(data))


@pytest.mark.parametrize("expert", [-1, 0.5])
def test_experts_are_counted(found: Circuit, expert: float) -> None:
    data = _with(data_of(detailed(found)), ("neurons", 1, 8), expert)
    assert "expert must be 0, 1, 2, ... or null" in refused(json.dumps(data))


def test_a_neuron_of_two_experts_is_two_neurons(found: Circuit) -> None:
    data = data_of(detailed(found))
    row = next(row for row in data["neurons"] if row[8] is not None)
    data["neurons"].append([*row[:8], 1 - row[8], *row[9:]])
    assert len(read(data).neurons) == len(found.neurons) + 1
    data["neurons"].append(data["neurons"][-1])
    assert "is repeated" in refused(json.dumps(data))


def test_experts_of_an_unknown_size_are_refused(found: Circuit) -> None:
    details = (Details(expert=1),) * len(found.neurons)
    with pytest.raises(CircuitError, match="not how many neurons each expert"):
        replace(found, details=details).check_shape((128, 128, 128))


@pytest.mark.parametrize(
    "wrong",
    [
        *WRONG,
        {"kind": "scale"},
        {"kind": "scale", "value": None},
        {"kind": "scale", "value": True},
        {"kind": "scale", "value": "0"},
        {"kind": "scale", "value": 1e400},
        {"kind": "scale", "value": 10**400},
        {"kind": "pin", "value": 1e39},
        {"kind": "pin", "value": 10**400},
        {"kind": "pin", "value": [0]},
        {"kind": "mean", "value": 0.5},
        {"kind": "shift", "value": 0.5},
        {"kind": ["pin"]},
        {"value": 0.5},
    ],
    ids=repr,
)
def test_strengths_that_cannot_be(found: Circuit, wrong: Any) -> None:
    data = data_of(detailed(found))
    data["intervention"] = wrong
    refused(json.dumps(data))


def test_a_strength_that_the_circuit_cannot_carry_out(found: Circuit) -> None:
    bare = replace(detailed(found), moments=(), details=())
    assert "no constants" in refused(bare.to_text())
    bare = replace(bare, intervention=Pin(kind="mean"))
    assert "no mean activations" in refused(bare.to_text())
    partly = _with(data_of(detailed(found)), ("neurons", 1, 9), None)
    assert "no constants" in refused(json.dumps(partly))


def test_no_field_of_format_2_of_a_wrong_type_does_harm(found: Circuit) -> None:
    data = data_of(detailed(found))
    outcomes = {"refused": 0, "read": 0}
    for path in _places(data):
        for value in (*WRONG, _with):
            outcomes[_outcome(json.dumps(_with(data, path, value)))] += 1
    assert outcomes["refused"] > 300


def test_constants(found: Circuit) -> None:
    circuit = detailed(found)
    means = [one.negative_mean for one in found.moments]
    assert circuit.constants(Pin(kind="mean")) == means
    assert circuit.constants(Pin(2.0)) == [2.0] * len(means)
    assert circuit.constants(Pin()) == [one.shift for one in circuit.details]
    assert Circuit(()).constants(Pin(kind="mean")) == []


@pytest.mark.parametrize(
    ("text", "strength"),
    [
        ("0.5", 0.5),
        (" -1 ", -1.0),
        ("mean", Pin(kind="mean")),
        ("pin", Pin()),
        ("pin=0.5", Pin(0.5)),
        ("pin=-1e-3", Pin(-0.001)),
        ("pin=0", Pin(0.0)),
    ],
)
def test_strengths_as_typed(text: str, strength: Strength) -> None:
    assert parse_strength(text) == strength
    assert parse_strength(as_typed(strength)) == strength


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "nan", "inf", "1e39", "pin=", "pin=x", "pin=nan", "pin=1e39"),
        *("pin=mean", "mean=1", "mean=", "scale=1", "Mean", "pin=1=2", "=1"),
    ],
)
def test_strengths_that_cannot_be_typed(text: str) -> None:
    with pytest.raises(InputError, match="is not a finite multiplier, mean or pin=C"):
        parse_strength(text)


# ------------------------------------------------------------------- experts

# A layer with two experts of four neurons and a shared one of two, and a dense layer.
LAYOUT = ((2, 4, 1), None)


def mixture() -> Circuit:
    neurons = (Neuron(0, 6, 3.0), Neuron(0, 9, -2.0), Neuron(1, 3, 1.0))
    model = ModelEntry(id="m", d_ff=(10, 5), experts=LAYOUT)
    details = (
        Details(positive_routed=0.5, negative_routed=0.25),
        *[Details()] * 2,
    )
    return Circuit(neurons, model=model, details=details)


def test_a_file_counts_the_neurons_of_each_expert() -> None:
    data = data_of(mixture())
    at = data["columns"].index("expert")
    assert data["format"] == 2
    assert data["model"]["experts"] == [[2, 4, 1], None]
    rows = [(row[0], row[at], row[1]) for row in data["neurons"]]
    assert rows == [(0, 1, 2), (0, None, 1), (1, None, 3)]
    assert read(data) == mixture()
    assert read(data).to_text() == mixture().to_text()
    assert mixture().rows()[0]["expert"] == 1
    mixture().check_shape((10, 5))
    mixture().check_shape((10, 5), ((2, 4, 2), None))  # a token may use more of them


def test_a_file_of_experts_says_how_many_its_model_has() -> None:
    data = data_of(mixture())
    for experts in ({}, {"experts": None}):
        model = {key: data["model"][key] for key in ("id", "d_ff")}
        with pytest.raises(CircuitError, match=r"names neurons of experts.*experts\)"):
            read({**data, "model": {**model, **experts}})


@pytest.mark.parametrize(
    ("share", "delta"), [(0.5, 3.5), (0.0, None), (1e-320, None), (5e-324, None)]
)
def test_the_delta_of_the_prompts_that_are_routed(
    share: float, delta: float | None
) -> None:
    details = Details(positive_routed=share, negative_routed=1.0)
    moments = Moments(2.0, 1.0, 0.5, 1.0)
    ours = Circuit((Neuron(0, 0, 1.5),), (moments,), details=(details,))
    (found,) = routing(ours)
    assert found is not None
    assert found.delta == delta


@pytest.mark.parametrize("layout", [((4, 2, 1), None), (None, None)])
def test_a_layer_of_as_many_neurons_in_other_experts_is_another_shape(
    layout: tuple[Any, ...],
) -> None:
    ours = mixture()
    other = replace(ours, model=replace(ours.model, experts=layout))
    assert ours.model.shape != other.model.shape
    with pytest.raises(CircuitError, match=r"of 4 .*this model has") as e:
        ours.check_model((10, 5), "any", allow_transfer=True, experts=layout)
    assert ("4 experts of 2:" in str(e.value)) == (layout[0] is not None)
    with pytest.raises(CircuitError, match="different shapes"):
        check_one_model([ours, other], allow_transfer=True)
    assert compare_circuits(ours, other).shared is None
    assert compare_circuits(ours, ours).shared is not None


def test_the_names_of_neurons_of_experts() -> None:
    model = mixture().model
    names = [model.neuron_name(*one[:2]) for one in mixture().neurons]
    assert names == ["1:2", "shared:1", "3"]
    for one, name in zip(mixture().neurons, names, strict=True):
        assert model.index_of_name(one.layer, name) == one.index
    assert model.active == (1 * 4 + 2) + 5
    for wrong in ("2:0", "0:4", "x:1", "1:", "x", "-1:2", "0:-1", "shared:-1"):
        with pytest.raises(InputError, match="is not a neuron of layer 0"):
            model.index_of_name(0, wrong)
    assert model.neuron_name(0, 10) == "10"  # the layer has ten: no shared:2
    assert ModelEntry().neuron_name(3, 407) == "407"
    assert ModelEntry().active is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("neurons", 0, 3), 2, "no expert 2, neuron 2 in layer 0"),
        (("neurons", 0, 1), 4, "no expert 1, neuron 4 in layer 0"),
        (("neurons", 2, 3), 0, "no expert 0, neuron 3 in layer 1"),
        (("neurons", 0, 4), 1.5, "neuron 0: the shares that are routed must be 0 to 1"),
        (("neurons", 0, 5), -0.5, "the shares that are routed must be 0 to 1"),
        (("model", "experts"), [[2, 4, 1]], "the model's experts are not"),
        (("model", "experts"), [[2, 6, 1], None], "the model's experts are not"),
        (("model", "experts"), [[2, 4, 3], None], "the model's experts are not"),
        (("model", "experts"), [[2, 4], None], "the model's experts are not"),
        (("model", "experts"), {"0": 2}, "the model's experts are not"),
    ],
)
def test_experts_that_the_model_does_not_have(
    path: tuple[Any, ...], value: Any, message: str
) -> None:
    data = data_of(mixture())
    assert data["columns"][3] == "expert"
    assert message in refused(json.dumps(_with(data, path, value)))
