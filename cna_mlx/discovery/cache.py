"""The cache of circuits, with a key of everything that decides a circuit."""

import hashlib
import io
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.discover import Discovery, algorithm_of, run_discovery
from cna_mlx.discovery.reference import NOTHING, Reference
from cna_mlx.discovery.selection import Selection, SplitHalf, expected_overlap, overlap
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.models.families import experts_of, widths
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.prompts import PromptSet, load_bank
from cna_mlx.prompts.chat_template import Rendering, reference_hash
from cna_mlx.util import ranks
from cna_mlx.util.files import cache_directory, write_atomically
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.reading import parse_json, read_arrays, read_text

_KINDS = (
    "circuits",
    "universal",
    "causal",
    "searches",
    "statistics",
    "openings",
    "averages",
)
# Averages of more bytes are read again: a mixture of 30B has 113 MB of them.
_LARGEST_AVERAGES = 1 << 26
# A name that the store makes, or its temporary file's.
_OWN_NAME = re.compile(r"[0-9a-f]{32}\.(json|npz)|\.[0-9a-f]{32}\.(json|npz)\.\w+")


@dataclass(frozen=True)
class CachedCircuit:
    """A circuit from the cache or from a new discovery.

    Attributes:
        path: its file in the cache; None if it could not be written.
        discovery: None if the circuit was cached.
        previous: after a discovery, the latest cached circuit of the same discovery on
            an earlier revision of the same hub id.
    """

    circuit: Circuit
    path: Path | None
    discovery: Discovery | None
    previous: Circuit | None = None

    @property
    def kept_from_previous(self) -> SplitHalf | None:
        """The overlap with the earlier revision's circuit; None for another shape."""
        sizes, before = self.circuit.model.d_ff, self.previous
        if (
            before is None
            or sizes is None
            or before.model.shape != self.circuit.model.shape
        ):
            return None
        new, old = ({n[:2] for n in one.neurons} for one in (self.circuit, before))
        chance = expected_overlap(self.circuit.k, sum(sizes))
        return SplitHalf(overlap(new, old), chance)


class Store:
    """Circuits and universal neurons under a directory.

    A file that cannot be read counts as missing, and one that cannot be written is
    skipped: the store only saves time.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or cache_directory()

    def find_or_discover(
        self,
        model: Any,
        tokenizer: Any,
        contrast: PromptSet,
        selection: Selection,
        rendering: Rendering,
        *,
        bank: Sequence[PromptSet] | None = None,
        refresh: bool = False,
        progress: Progress = silent,
    ) -> CachedCircuit:
        """Return the circuit of a model and contrast; discover it if it is not cached.

        ``bank`` defines the universal neurons (None: the built-in one); ``refresh``
        discovers the circuit again. The rest is as for :func:`run_discovery`.
        """
        bank = load_bank() if bank is None and selection.universal else bank or []
        # The key of the universal neurons: all but the contrast.
        common = {
            **identity_of(model, tokenizer, rendering),
            "algorithm": algorithm_of(selection),
            "selection": selection.identity(),
            "bank": [one.sha256 for one in bank],
        }
        identity = {
            "name": contrast.name,  # and labels: the circuit's file has them
            "labels": [contrast.positive_label, contrast.negative_label],
            "sha256": contrast.sha256,
        }
        path = self._path("circuits", {**common, "contrast": identity})
        kept_circuit = None if refresh else _read_circuit(path)
        if kept_circuit and _is_of(kept_circuit, model, contrast, selection):
            return CachedCircuit(kept_circuit, path, None)
        bank_path, sizes = self._path("universal", common), widths(model)
        kept = _Kept(self._path("causal", {**common, "contrast": identity}))
        discovery = run_discovery(
            model,
            tokenizer,
            contrast,
            selection,
            rendering=rendering,
            universal=_read_neurons(bank_path, sizes) if selection.universal else None,
            bank=bank,
            kept=kept,
            progress=progress,
        )
        kept.remove()
        # before it is written: the same weights have the same file
        previous = self._previous(discovery.circuit, rendering)
        averages = discovery.averages
        is_kept = self.reference(model, tokenizer, contrast, rendering) is not None
        if len(averages) == sum(map(bool, sizes)) and not is_kept:
            layers = range(len(sizes))
            made_by = Reference([averages.get(layer, NOTHING) for layer in layers])
            self.keep_reference(model, tokenizer, contrast, rendering, made_by)
        if discovery.universal is not None:
            keep_file(bank_path, json.dumps(sorted(discovery.universal)))
        written = keep_file(path, discovery.circuit.to_text())
        return CachedCircuit(
            discovery.circuit, path if written else None, discovery, previous
        )

    def reference(
        self, model: Any, tokenizer: Any, contrast: PromptSet, rendering: Rendering
    ) -> Reference | None:
        """The averages over a contrast, if a discovery or an evaluation kept them."""
        path = self._averages(model, tokenizer, contrast, rendering)
        try:
            return Reference.of_arrays(read_arrays(path), widths(model))
        except (OSError, ValueError, KeyError):
            return None

    def keep_reference(
        self,
        model: Any,
        tokenizer: Any,
        contrast: PromptSet,
        rendering: Rendering,
        made_by: Reference,
    ) -> None:
        """Keep the averages over a contrast, unless they are large."""
        if sum(layer.nbytes for layer in made_by.layers) > _LARGEST_AVERAGES:
            return
        np.savez(content := io.BytesIO(), **made_by.arrays())  # type: ignore[arg-type]
        path = self._averages(model, tokenizer, contrast, rendering)
        keep_file(path, content.getvalue())

    def _averages(
        self, model: Any, tokenizer: Any, contrast: PromptSet, rendering: Rendering
    ) -> Path:
        key = identity_of(model, tokenizer, rendering)
        return self.place("averages", {**key, "contrast": contrast.sha256}, ".npz")

    def place(self, kind: str, key: dict[str, Any], suffix: str = ".json") -> Path:
        """The file of another kind, by everything that decides it."""
        return self._path(kind, key).with_suffix(suffix)

    def _previous(self, new: Circuit, rendering: Rendering) -> Circuit | None:
        """The latest circuit of the same kind from another revision of the same id."""
        if new.model.revision is None:  # a directory has no revisions
            return None
        kind = _kind(new, rendering)
        place = self.directory / "circuits"
        names = ranks.first(lambda: [path.name for path in place.glob("*.json")])
        stored = map(_read_circuit, (place / name for name in names))
        found = [
            one
            for one in stored
            if one
            and one.model.revision not in (None, new.model.revision)
            and _kind(one, rendering) == kind
        ]
        return max(found, key=lambda one: str(one.provenance.created), default=None)

    def files(self) -> list[Path]:
        """The files that the store made; links are left out.

        Raises:
            OSError: a directory cannot be read.
        """
        directories = [self.directory / kind for kind in _KINDS]
        return [
            path
            for directory in directories
            if directory.is_dir() and not directory.is_symlink()
            for path in sorted(directory.iterdir())
            if _OWN_NAME.fullmatch(path.name)
            and path.is_file()
            and not path.is_symlink()
        ]

    def circuits(self, fingerprint: str) -> list[Circuit]:
        """The readable cached circuits of a model; none if there is no access."""
        try:
            names = ranks.first(lambda: [str(path) for path in self.files()])
            kept = [path for path in map(Path, names) if path.suffix == ".json"]
        except OSError:
            return []
        found = (_read_circuit(path) for path in kept if path.parent.name == "circuits")
        return [one for one in found if one and one.model.fingerprint == fingerprint]

    def clear(self) -> tuple[int, int]:
        """Remove the files that the store made; returns their number and bytes.

        Raises:
            InputError: a file cannot be removed.
        """
        count = size = 0
        try:
            for path in self.files():
                size += path.stat().st_size
                path.unlink()
                count += 1
        except OSError as error:
            raise InputError(
                f"{error.filename}: cannot be removed ({error.strerror}); "
                f"removed {count} other files"
            ) from None
        return count, size

    def _path(self, kind: str, key: dict[str, Any]) -> Path:
        text = json.dumps(key, sort_keys=True, ensure_ascii=False)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self.directory / kind / f"{name}.json"


class _Kept(dict[str, Any]):
    """The finished work of a discovery, written at once to resume by."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            super().__init__(parse_json(read_text(path), finite=True))
        except (OSError, ValueError, TypeError):
            super().__init__()

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        keep_file(self.path, json.dumps(self))

    def remove(self) -> None:
        """Remove the file: the discovery is finished."""
        if ranks.is_first():
            with suppress(OSError):
                self.path.unlink()


def keep(found: CachedCircuit, circuit: Circuit) -> CachedCircuit:
    """Replace a cached circuit by the same one with more provenance."""
    if found.path is not None:
        keep_file(found.path, circuit.to_text())
    discovery = found.discovery and replace(found.discovery, circuit=circuit)
    return replace(found, circuit=circuit, discovery=discovery)


def _kind(circuit: Circuit, rendering: Rendering) -> list[Any] | None:
    """What two revisions' circuits must share to be compared; None if unknown."""
    origin = circuit.provenance
    if origin.rendering is None or origin.contrast is None:
        return None
    # not the hash of the reference prompt: a tokenizer may move too
    rendered = [getattr(origin.rendering, key) for key in rendering.to_dict()]
    settings = (
        *("contrast", "fraction", "rank", "layers", "positions", "universal"),
        "algorithm",
    )
    return [circuit.model.id, rendered, *(getattr(origin, key) for key in settings)]


def _read_circuit(path: Path) -> Circuit | None:
    try:
        return replace(Circuit.load(path), file=None)
    except CircuitError:
        return None


def _is_of(
    circuit: Circuit, model: Any, contrast: PromptSet, selection: Selection
) -> bool:
    """Whether a cached circuit is what its name says; another counts as missing."""
    origin = circuit.provenance
    try:
        circuit.check_model(
            widths(model), fingerprint(model), experts=experts_of(model)
        )
    except CircuitError:
        return False
    return (
        circuit.model.fingerprint is not None
        and circuit.is_from(contrast.sha256)
        and (origin.rank, origin.fraction) == (selection.rank, selection.fraction)
    )


def _read_neurons(
    path: Path, sizes: Sequence[int]
) -> frozenset[tuple[int, int]] | None:
    try:
        neurons = Circuit.from_neurons(parse_json(read_text(path), finite=True))
        neurons.check_shape(sizes)
    except (OSError, ValueError, TypeError, CircuitError):
        return None
    return frozenset(neuron[:2] for neuron in neurons.neurons)


def identity_of(model: Any, tokenizer: Any, rendering: Rendering) -> dict[str, Any]:
    """The part of every key that says which weights read prompts, and how."""
    return {
        "fingerprint": fingerprint(model),
        "rendering": rendering.to_dict(),
        "reference": reference_hash(tokenizer, rendering),
    }


def keep_file(path: Path, content: str | bytes) -> bool:
    """Write a file of the store; False if it cannot be written."""
    if not ranks.is_first():
        return True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except (OSError, InputError):
        return False
    return True
