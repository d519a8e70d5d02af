"""The store: found again by all that decides a circuit, and nothing depends on it."""

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from commandline import NEGATIVE, POSITIVE

import cna_mlx.discovery.cache as store_module
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.cache import CachedCircuit, Store
from cna_mlx.discovery.discover import algorithm_of, run_discovery
from cna_mlx.discovery.reference import reference
from cna_mlx.discovery.selection import Rank, Selection, SplitHalf, expected_overlap
from cna_mlx.discovery.session import Session
from cna_mlx.models.loading import Source
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.util.files import cache_directory

CONTRAST = PromptSet.from_prompts(POSITIVE, NEGATIVE, "red-vs-blue")
OTHER = PromptSet.from_prompts(["up high", "up there"], ["down low", "down here"], "up")
BANK = [
    PromptSet.from_prompts([f"{w} sings", f"{w} runs"], [f"{w} sang", f"{w} ran"], w)
    for w in ("she", "he", "it")
]
SELECTION = Selection(0.1)

Find = Callable[..., CachedCircuit]


def assert_alike(found: Circuit, expected: Circuit) -> None:
    """The same neurons; a walk without the bank has batches of another shape, which a
    fast BLAS rounds differently."""
    assert [n[:2] for n in found.neurons] == [n[:2] for n in expected.neurons]
    deltas = [n.delta for n in found.neurons]
    wanted = [n.delta for n in expected.neurons]
    assert deltas == pytest.approx(wanted, rel=1e-5, abs=1e-4)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The contrasts that a model had to run for."""
    seen: list[str] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        seen.append(arguments[2].name)
        return run_discovery(*arguments, **options)

    monkeypatch.setattr(store_module, "run_discovery", counted)
    return seen


@pytest.fixture
def find(tiny: tuple[Any, Any], tmp_path: Path, walks: list[str]) -> Find:
    def one(
        contrast: PromptSet = CONTRAST,
        selection: Selection = SELECTION,
        rendering: Rendering | None = None,
        *,
        bank: list[PromptSet] | None = None,
        model: Any = None,
        tokenizer: Any = None,
        directory: Path | None = None,
        **options: Any,
    ) -> CachedCircuit:
        return Store(directory or tmp_path / "store").find_or_discover(
            model or tiny[0],
            tokenizer or tiny[1],
            contrast,
            selection,
            rendering or Rendering(),
            bank=BANK if bank is None else bank,
            **options,
        )

    return one


def test_the_second_time_no_model_runs(find: Find, walks: list[str]) -> None:
    first, second = find(), find()
    assert walks == ["red-vs-blue"]
    assert first.discovery is not None
    assert second.discovery is None
    assert second.circuit == first.circuit
    assert second.path == first.path is not None


def test_refreshing_runs_it_again(find: Find, walks: list[str]) -> None:
    first, second = find(), find(refresh=True)
    assert len(walks) == 2
    assert second.discovery is not None
    assert_alike(second.circuit, first.circuit)


CHANGES: dict[str, dict[str, Any]] = {
    "prompts": {"contrast": replace(CONTRAST, positive=(*POSITIVE[:-1], "red dogs"))},
    "order": {"contrast": replace(CONTRAST, positive=tuple(POSITIVE[::-1]))},
    "sides": {"contrast": replace(CONTRAST, positive=CONTRAST.negative,
                                  negative=CONTRAST.positive)},
    "name": {"contrast": replace(CONTRAST, name="colours")},
    "labels": {"contrast": replace(CONTRAST, positive_label="red")},
    "fraction": {"selection": Selection(0.11)},
    "band": {"selection": Selection(0.1, layers=(1, 3))},
    "whole band": {"selection": Selection(0.1, layers=(0, 3))},
    "rank": {"selection": Selection(0.1, rank="weighted")},
    "universal": {"selection": Selection(0.1, universal=False)},
    "system": {"rendering": Rendering(system="Be brief.")},
    "empty system": {"rendering": Rendering(system="")},
    "date": {"rendering": Rendering(date=date(2025, 1, 1))},
    "thinking": {"rendering": Rendering(thinking=True)},
    "template": {"rendering": Rendering(template="off")},
    "bank": {"bank": BANK[:2]},
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_the_result_is_in_the_key(
    change: str, find: Find, walks: list[str]
) -> None:
    first, second = find(), find(**CHANGES[change])
    assert len(walks) == 2
    assert second.path != first.path
    assert find().discovery is None  # and the first is still there
    assert find(**CHANGES[change]).discovery is None


def test_other_weights_miss(
    find: Find, walks: list[str], build: Callable[..., Any]
) -> None:
    one, two = build("llama", seed=5), build("llama", seed=6)
    first = find(model=one)
    assert find(model=build("llama", seed=5)).discovery is None  # equal weights hit
    assert find(model=two).path != first.path
    assert len(walks) == 2


def test_another_template_misses(
    find: Find, walks: list[str], tokenizers: dict[str, Any]
) -> None:
    assert find().path != find(tokenizer=tokenizers["qwen3"]).path
    assert len(walks) == 2


def test_another_version_of_the_algorithm_misses(
    find: Find, walks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find()
    monkeypatch.setattr("cna_mlx.discovery.discover.ALGORITHM", 99)
    find()
    assert len(walks) == 2


def test_ranks_that_read_answers_have_a_version_of_their_own() -> None:
    versions = {rank: algorithm_of(Selection(rank=rank)) for rank in get_args(Rank)}
    assert {rank for rank, one in versions.items() if one == 2} == {
        *("direct", "influence", "causal"),
    }
    assert set(versions.values()) == {1, 2}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"kind": "cna-mlx circuit", "format": 99}', "\xff"]
)
def test_a_corrupt_circuit_counts_as_missing(
    text: str, find: Find, walks: list[str]
) -> None:
    first = find()
    assert first.path is not None
    first.path.write_text(text, encoding="latin-1")
    second = find()
    assert len(walks) == 2
    assert_alike(second.circuit, first.circuit)
    assert find().discovery is None  # and is mended


def test_the_averages_of_a_discovery_serve_the_controls(
    tiny: tuple[Any, Any], find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No prompt is read again; what is read later is kept as well."""
    model, tokenizer = tiny
    read: list[int] = []

    def counted(model: Any, ids: Any, **options: Any) -> Any:
        read.append(len(ids))
        return last_activations(model, ids, **options)

    monkeypatch.setattr("cna_mlx.discovery.reference.last_activations", counted)
    monkeypatch.setenv("CNA_MLX_CACHE", str(tmp_path / "own"))
    session = Session.of(model, tokenizer)
    asked = model, tokenizer, CONTRAST, Rendering()
    wanted = reference(*asked)
    read.clear()
    Store().find_or_discover(*asked[:3], SELECTION, Rendering(), bank=BANK)
    found = session.reference(CONTRAST)
    assert read == []
    for one, other in zip(found.layers, wanted.layers, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for _ in range(2):
        session.reference(OTHER)
    assert read == [4]
    # a file of something else counts as missing
    (path,) = [p for p in Store().files() if p.parent.name == "averages"][:1]
    np.savez(path, layer_0=np.ones(3))
    again = [session.reference(one) for one in (CONTRAST, OTHER)]
    assert len(read) == 2
    assert {len(one.layers) for one in again} == {len(wanted.layers)}
    # of some layers only: not enough for controls in others
    monkeypatch.setenv("CNA_MLX_CACHE", str(tmp_path / "band"))
    banded = Selection(0.1, layers=(1, 2))
    Store().find_or_discover(*asked[:3], banded, Rendering(), bank=BANK)
    assert Store().reference(*asked) is None


def test_universal_neurons_serve_another_contrast(
    find: Find, tiny: tuple[Any, Any], tmp_path: Path
) -> None:
    selection = Selection(0.3)
    first = find(CONTRAST, selection)
    assert first.discovery is not None
    assert first.discovery.prompts == 8 + 12
    assert first.discovery.universal  # or this says nothing
    shared = find(OTHER, selection)
    assert shared.discovery is not None
    assert shared.discovery.prompts == 4  # the bank was not read again
    assert shared.discovery.universal == first.discovery.universal
    alone = run_discovery(*tiny, OTHER, selection, bank=BANK).circuit
    found = shared.circuit
    assert_alike(found, alone)
    assert found.universal_dropped == alone.universal_dropped
    assert found.universal_dropped


@pytest.mark.parametrize(
    "text", ["", "5", "null", "[[1]]", '[["a", 1]]', "[[Infinity, 1]]", '{"a": 1}']
)
def test_corrupt_universal_neurons_count_as_missing(
    text: str, find: Find, tmp_path: Path
) -> None:
    expected = find(CONTRAST).circuit
    (kept,) = (tmp_path / "store" / "universal").iterdir()
    kept.write_text(text)
    again = find(CONTRAST, refresh=True)
    assert again.discovery is not None
    assert again.discovery.prompts == 8 + 12
    assert_alike(again.circuit, expected)
    assert json.loads(kept.read_text()) == [
        list(neuron) for neuron in sorted(again.discovery.universal or ())
    ]


def test_without_the_filter_no_universal_neurons_are_kept(
    find: Find, tmp_path: Path
) -> None:
    find(CONTRAST, Selection(0.1, universal=False))
    assert not (tmp_path / "store" / "universal").exists()


def test_a_directory_that_cannot_be_written(find: Find, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the directory should be")
    found = find(directory=blocked)
    assert found.path is None
    assert found.circuit.neurons
    assert blocked.read_text() == "a file where the directory should be"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(find: Find, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert find(directory=locked).path is None


def test_a_full_disk(
    find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert find().path is None
    assert list((tmp_path / "store").rglob("*.json")) == []


def test_nothing_but_whole_files_is_left(find: Find, tmp_path: Path) -> None:
    find()
    left = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    kinds = {path.parent.name for path in left}
    assert kinds == {"circuits", "universal", "averages"}
    assert len(left) == 3
    assert all(path.suffix in (".json", ".npz") for path in left)
    assert all(path.name[0] != "." for path in left)


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CNA_MLX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_directory() == tmp_path / ".cache" / "cna-mlx"
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # set but empty counts as unset
    assert cache_directory() == tmp_path / ".cache" / "cna-mlx"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "cna-mlx"
    monkeypatch.setenv("CNA_MLX_CACHE", "~/own")
    assert cache_directory() == tmp_path / "own"
    assert Store().directory == tmp_path / "own"


# ------------------------------------------------------------- a model that moves


@pytest.fixture
def revised(
    find: Find, tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., CachedCircuit]:
    """What a discovery comes to where the model is a revision of org/tiny."""

    def at(
        revision: str | None, name: str = "org/tiny", **options: Any
    ) -> CachedCircuit:
        source = Source(name, Path(), revision, {})
        monkeypatch.setattr(tiny[0], "_cna_source", source)
        return find(refresh=True, **options)

    return at


def test_an_earlier_revision_is_found(revised: Callable[..., CachedCircuit]) -> None:
    first = revised("1" * 40)
    assert first.previous is None
    assert revised("1" * 40).previous is None
    second = revised("2" * 40)
    assert second.previous
    assert_alike(second.previous, first.circuit)
    assert second.previous.model == first.circuit.model
    assert second.kept_from_previous == SplitHalf(
        1.0, expected_overlap(64, sum(first.circuit.model.d_ff))
    )


@pytest.mark.parametrize("change", ["name", "fraction", "system", "labels"])
def test_only_the_same_discovery_is_compared(
    revised: Callable[..., CachedCircuit], change: str
) -> None:
    revised("1" * 40)
    assert revised("2" * 40, **CHANGES[change]).previous is None


def test_only_revisions_of_the_same_id_are_compared(
    revised: Callable[..., CachedCircuit],
) -> None:
    revised(None)
    revised("1" * 40, "org/other")
    assert revised("2" * 40).previous is None
    assert revised(None).previous is None


def test_the_latest_of_several_revisions(
    revised: Callable[..., CachedCircuit], tmp_path: Path
) -> None:
    """And the overlap counts shared neurons over all."""
    found = revised("1" * 40)
    for year, revision, kept in ((2025, "3", 32), (2024, "4", 10)):
        circuit = replace(
            found.circuit,
            neurons=found.circuit.neurons[:kept],
            moments=found.circuit.moments[:kept],
            model=replace(found.circuit.model, revision=revision * 40),
            provenance=replace(
                found.circuit.provenance,
                created=f"{year + 100}-01-01T00:00:00+00:00",
            ),
        )
        circuit.save(tmp_path / "store" / "circuits" / f"{revision}.json")
    for damage in ('{"columns": 5}', ""):
        name = f"{len(damage)}.json"
        (tmp_path / "store" / "circuits" / name).write_text(damage)
    found = revised("2" * 40)
    assert found.previous is not None
    assert found.previous.model.revision == "3" * 40
    assert found.kept_from_previous is not None
    assert found.kept_from_previous.jaccard == 32 / len(found.circuit.neurons)
