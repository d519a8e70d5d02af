"""A circuit: neurons found by a discovery, and their file."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cna_mlx.errors import CircuitError, InputError, TransferError
from cna_mlx.neurons import (
    BASIC,
    COLUMNS,
    FURTHER,
    MOST_LAYERS,
    known_columns,
    read_details,
    read_neurons,
    used_columns,
)
from cna_mlx.neurons import Details as Details
from cna_mlx.neurons import Moments as Moments
from cna_mlx.neurons import Neuron as Neuron
from cna_mlx.provenance import Experts, ModelEntry, Provenance
from cna_mlx.strength import Pin, Strength, from_intervention, to_intervention
from cna_mlx.util.files import write_atomically
from cna_mlx.util.reading import read_text
from cna_mlx.util.records import parse_document
from cna_mlx.util.rows import Row, html_table

#: The newest format. Circuits that use nothing of it are written in format 1.
FORMAT = 2
_KIND = "cna-mlx circuit"


@dataclass(frozen=True, repr=False)
class Circuit:
    """The neurons that separate one set of prompts from another, with their origin.

    Attributes:
        neurons: (layer, index, delta), largest score first.
        moments: one for each neuron, or empty if they are unknown.
        model: what it was found on.
        provenance: how it was found.
        details: one for each neuron, or empty.
        intervention: the strength to steer with unless another is given; None for 0.
        file: what it was read from, if it was.
    """

    neurons: tuple[Neuron, ...]
    moments: tuple[Moments, ...] = ()
    model: ModelEntry = field(default_factory=ModelEntry)
    provenance: Provenance = field(default_factory=Provenance)
    details: tuple[Details, ...] = ()
    intervention: Strength | None = None
    file: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        layers, contrast = self.by_layer(), self.provenance.contrast
        where = f" of layers {min(layers)} to {max(layers)}" if layers else ""
        found = f", {contrast.name}" if contrast else ""
        return (
            f"Circuit({len(self.neurons)} neurons{where}{found}, "
            f"of {self.model.id or 'no known model'})"
        )

    def rows(self) -> list[Row]:
        """A row for each neuron, with its moments and details if known."""
        parts = zip_longest(*self._written())
        return [
            {
                key: value
                for part in row
                if part
                for key, value in part._asdict().items()
            }
            for row in parts
        ]

    def _repr_html_(self) -> str:
        return html_table(self.rows())

    @classmethod
    def from_neurons(cls, neurons: Iterable[Sequence[float]]) -> "Circuit":
        """Make a circuit of (layer, index) or (layer, index, delta) entries.

        Raises:
            CircuitError: an entry has another form, or is repeated.
        """
        return cls(tuple(read_neurons(neurons, "from_neurons")))

    @property
    def universal_dropped(self) -> list[list[int]]:
        """The neurons left out because they respond to every contrast."""
        return [list(pair) for pair in self.provenance.universal_dropped or ()]

    @property
    def k(self) -> int:
        """How many neurons were ranked, universal ones included."""
        return len(self.neurons) + len(self.universal_dropped)

    def entry(self, *names: str) -> dict[str, Any]:
        """Its model's fingerprint, its size, and these entries of its provenance."""
        origin = self.provenance.to_dict()
        return {
            "fingerprint": self.model.fingerprint,
            "neurons": len(self.neurons),
            "k": self.k,
            **{name: origin.get(name) for name in names},
        }

    def is_from(self, contrast_sha256: str) -> bool:
        """Whether the circuit was discovered on the prompts with this hash."""
        contrast = self.provenance.contrast
        return contrast is not None and contrast.sha256 == contrast_sha256

    def by_layer(self) -> dict[int, list[Neuron]]:
        """The circuit's neurons by layer."""
        layers: dict[int, list[Neuron]] = {}
        for neuron in self.neurons:
            layers.setdefault(neuron.layer, []).append(neuron)
        return dict(sorted(layers.items()))

    def constants(self, pin: Pin) -> list[float]:
        """What a pin replaces each neuron's activation by.

        Raises:
            CircuitError: the circuit does not have what the pin needs.
        """
        if pin.kind == "mean":
            if len(self.moments) < len(self.neurons):
                raise CircuitError(
                    "the circuit has no mean activations, which mean ablation needs: "
                    "discover it again, or pin it to a constant (pin=C)"
                )
            return [moments.negative_mean for moments in self.moments]
        if pin.value is not None:
            return [pin.value] * len(self.neurons)
        shifts = [one.shift for one in self.details if one.shift is not None]
        if len(shifts) < len(self.neurons):
            raise CircuitError(
                "the circuit has no constants to pin to: give one (pin=C)"
            )
        return shifts

    def check_shape(
        self, widths: Sequence[int], experts: Experts | None = None
    ) -> None:
        """Check that every neuron exists in a model of these d_ff and experts.

        Args:
            experts: as in :class:`ModelEntry`; None does not compare them.

        Raises:
            CircuitError: the circuit was made on another shape, is out of range, or
                names experts.
        """
        other = ModelEntry(
            d_ff=tuple(widths),
            experts=self.model.experts if experts is None else tuple(experts),
        )
        if self.model.shape not in (None, other.shape):
            raise CircuitError(
                f"the circuit was made on {_shape(self.model)} ({self.model.id}); "
                f"this model has {_shape(other)}: discover one for it"
            )
        if any(one.expert is not None for one in self.details):
            raise CircuitError(
                "the circuit names neurons of experts, and not how many neurons each "
                "expert of its model has: discover it again"
            )
        for layer, index, _ in self.neurons:
            if not (0 <= layer < len(widths) and 0 <= index < widths[layer]):
                raise CircuitError(
                    f"the circuit names neuron {index} of layer {layer}; "
                    f"this model has {_shape(other)}"
                )

    def check_model(
        self,
        widths: Sequence[int],
        fingerprint: str,
        allow_transfer: bool = False,
        experts: Experts | None = None,
    ) -> None:
        """Check that the circuit was made on the weights of this d_ff and fingerprint.

        Args:
            experts: as in :meth:`check_shape`.

        Raises:
            CircuitError: another shape.
            TransferError: the same shape, other weights, and allow_transfer is off.
        """
        self.check_shape(widths, experts)
        own = self.model.fingerprint
        if own is not None and own != fingerprint and not allow_transfer:
            raise TransferError(
                f"the circuit was made on other weights ({self.model.id}, "
                f"{self.model.quantization}); to try it on these anyway, "
                "add --allow-transfer"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the circuit as JSON, atomically.

        Raises:
            InputError: the file cannot be written.
        """
        write_atomically(Path(path), self.to_text())

    def to_text(self) -> str:
        """Return the circuit as JSON text, a neuron on each line."""
        neurons, moments, details = self._written()
        further = used_columns(details)
        places = [FURTHER.index(name) for name in further]
        rows = [
            json.dumps([*neuron, *extra, *(detail[place] for place in places)])
            for neuron, extra, detail in zip_longest(
                neurons, moments, details if further else (), fillvalue=()
            )
        ]
        head = {
            "kind": _KIND,
            "format": 1 if self.intervention is None and not further else FORMAT,
            "model": self.model.to_dict(),
            **self.provenance.to_dict(),
            **self.intervention_entry(),
            "columns": [*(COLUMNS if self.moments else BASIC), *further],
        }
        body = json.dumps(head, indent=1, ensure_ascii=False)
        lines = ",\n  ".join(rows)
        return f'{body[:-2]},\n "neurons": [\n  {lines}\n ]\n}}\n'

    def _written(
        self,
    ) -> tuple[Sequence[Neuron], Sequence[Moments], Sequence[Details]]:
        """The parts of its rows, with each expert's neurons counted from 0."""
        if not self.model.experts:
            return self.neurons, self.moments, self.details
        details = self.details or [Details()] * len(self.neurons)
        places = [self.model.expert_of(*neuron[:2]) for neuron in self.neurons]
        neurons, owned = [], []
        for neuron, one, place in zip(self.neurons, details, places, strict=True):
            neurons.append(neuron._replace(index=place[1]))
            owned.append(one._replace(expert=place[0]))
        return neurons, self.moments, owned

    def intervention_entry(self) -> dict[str, Any]:
        """The entry of its strength in JSON; empty without one."""
        strength = self.intervention
        return {} if strength is None else {"intervention": to_intervention(strength)}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Circuit":
        """Read a circuit file.

        Raises:
            CircuitError: no such file, not JSON, not a circuit, or a newer format.
        """
        try:
            text = read_text(Path(path).expanduser())
        except FileNotFoundError:
            raise CircuitError(f"{path}: no such circuit file") from None
        except RuntimeError:  # ~nobody
            raise CircuitError(f"{path}: no such user's directory") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise CircuitError(f"{path}: cannot be read ({reason})") from None
        return replace(cls.from_text(text, str(path)), file=str(path))

    @classmethod
    def from_text(cls, text: str, name: str) -> "Circuit":
        """Read what :meth:`to_text` wrote; ``name`` is for the messages.

        Raises:
            CircuitError: not JSON, not a circuit, or a newer format.
        """
        data = parse_document(text, _KIND, FORMAT, name, CircuitError, finite=False)
        columns, rows, model = (data.get(k) for k in ("columns", "neurons", "model"))
        if not isinstance(rows, list) or not isinstance(model, dict):
            raise CircuitError(f"{name}: it has no neurons or no model; discover again")
        if columns is None or not known_columns(columns, data["format"]):
            raise CircuitError(f"{name}: unknown columns {columns!r}")
        neurons = read_neurons(rows, name, columns)
        has_moments = len(columns) >= len(COLUMNS) and columns[3] == COLUMNS[3]
        end = len(COLUMNS)
        moments = [Moments(*map(float, row[3:end])) for row in rows if has_moments]
        own = _OWN if data["format"] == 1 else (*_OWN, "intervention")
        rest = {key: value for key, value in data.items() if key not in own}
        entry, details = _model(model, name), read_details(rows, columns)
        if entry.experts:
            neurons, details = _numbered(neurons, details, entry, name)
        elif any(one.expert is not None for one in details):
            raise CircuitError(
                f"{name}: it names neurons of experts, but not how many experts its "
                "model has (model.experts); discover again"
            )
        found = cls(tuple(neurons), tuple(moments), entry, _origin(rest, name), details)
        return found if data["format"] == 1 else _with_intervention(found, data, name)

    def strongest(self, count: int) -> "Circuit":
        """Return the circuit's first ``count`` neurons only."""
        return self.part(range(len(self.neurons))[:count])

    def part(self, places: Iterable[int]) -> "Circuit":
        """Return the circuit's neurons at these places, from 0, in their order."""
        kept = sorted(places)
        return replace(
            self,
            neurons=tuple(self.neurons[at] for at in kept),
            moments=tuple(self.moments[at] for at in kept if self.moments),
            details=tuple(self.details[at] for at in kept if self.details),
        )


# The keys of a file that are not its provenance.
_OWN = ("kind", "format", "model", "columns", "neurons")


def _with_intervention(circuit: Circuit, data: dict[str, Any], name: str) -> Circuit:
    if "intervention" not in data:
        return circuit
    try:
        strength = from_intervention(data["intervention"])
        if isinstance(strength, Pin):
            circuit.constants(strength)
    except (InputError, CircuitError) as error:
        raise CircuitError(f"{name}: {error}") from None
    return replace(circuit, intervention=strength)


def _model(data: dict[str, Any], name: str) -> ModelEntry:
    model = ModelEntry.from_dict(data)
    if model.d_ff is None and data.get("d_ff") is not None:
        raise CircuitError(f"{name}: the model's d_ff is not a list of whole numbers")
    if len(model.d_ff or ()) > MOST_LAYERS:
        raise CircuitError(f"{name}: no model has {len(model.d_ff or ())} layers")
    if data.get("experts") is not None and not _has_experts(model):
        raise CircuitError(
            f"{name}: the model's experts are not null for each layer, or how many, of "
            "how many neurons, and how many a token uses"
        )
    return model


def _has_experts(model: ModelEntry) -> bool:
    if model.experts is None or len(model.experts) != len(model.d_ff or ()):
        return False
    layers = zip(model.experts, model.d_ff or (), strict=True)
    return all(
        own is None or (min(own) > 0 and own[0] * own[1] <= width and own[2] <= own[0])
        for own, width in layers
    )


def _numbered(
    neurons: Sequence[Neuron],
    details: Sequence[Details],
    model: ModelEntry,
    name: str,
) -> tuple[list[Neuron], tuple[Details, ...]]:
    """The neurons of experts, counted through all experts of their layer."""
    found = []
    owners = details or [Details()] * len(neurons)
    for neuron, detail in zip(neurons, owners, strict=True):
        try:
            index = model.index_of(neuron.layer, detail.expert, neuron.index)
        except LookupError as error:
            raise CircuitError(
                f"{name}: the model has no {error} in layer {neuron.layer}"
            ) from None
        found.append(neuron._replace(index=index))
    bare = tuple(one._replace(expert=None) for one in details)
    return found, bare if any(one != Details() for one in bare) else ()


def _origin(data: dict[str, Any], name: str) -> Provenance:
    origin = Provenance.from_dict(data)
    dropped = () if "universal_dropped" not in data else origin.universal_dropped
    if dropped is None or any(len(pair) != 2 for pair in dropped):
        raise CircuitError(f"{name}: universal_dropped is not a list of [layer, index]")
    return origin


def _shape(model: ModelEntry) -> str:
    widths = model.d_ff or ()
    different = sorted(set(widths) - {0})
    if not different:
        return "no layers"
    width = str(different[0]) if len(different) == 1 else f"{different[0]} and more"
    experts = sorted({one[:2] for one in model.experts or () if one})
    mixed = "".join(f", with {count} experts of {own}" for count, own in experts[:1])
    count = sum(map(bool, widths))  # some models have layers without
    some = "" if count == len(widths) else f", {count} of them"
    return f"{len(widths)} layers{some} of {width} neurons{mixed}"
