"""The prompts that a circuit was discovered on."""

from dataclasses import replace
from typing import Any

import pytest

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.own_contrast import discovery_prompts, own_contrast
from cna_mlx.discovery.selection import Selection
from cna_mlx.errors import InputError
from cna_mlx.prompts import PromptSet, load_contrast
from cna_mlx.provenance import ContrastEntry, Provenance


def circuit_of(contrast: PromptSet, **changes: Any) -> Circuit:
    entry = {"name": contrast.name, "sha256": contrast.sha256, **changes}
    made = Circuit.from_neurons([(0, 1, 1.0)])
    return replace(made, provenance=Provenance.from_dict({"contrast": entry}))


@pytest.mark.parametrize("name", ["refusal", "magic"])
def test_a_built_in_contrast_is_known(name: str) -> None:
    contrast = load_contrast(name)
    assert discovery_prompts(circuit_of(contrast)) == contrast


@pytest.mark.parametrize(
    "changes",
    [
        {"positive": -1, "sha256": "0" * 64},
        {"sha256": "0" * 64},
        {"sha256": None},
        {"name": "my-own"},
        {"name": None},
    ],
)
def test_any_other_contrast_is_not(changes: dict[str, Any]) -> None:
    assert discovery_prompts(circuit_of(load_contrast("refusal"), **changes)) is None


def test_a_circuit_made_by_hand_has_seen_nothing_that_is_known() -> None:
    assert discovery_prompts(Circuit.from_neurons([(0, 1)])) is None
    odd = replace(
        Circuit.from_neurons([(0, 1)]),
        provenance=Provenance.from_dict({"contrast": "refusal"}),
    )
    assert discovery_prompts(odd) is None


def test_a_discovered_circuit_knows_its_contrast(llama: Any, tokenizer: Any) -> None:
    contrast = load_contrast("refusal-small")
    found = run_discovery(llama, tokenizer, contrast, Selection(0.01, universal=False))
    assert discovery_prompts(found.circuit) == contrast
    own = replace(contrast, positive=contrast.positive[:4])
    found = run_discovery(llama, tokenizer, own, Selection(0.01, universal=False))
    assert discovery_prompts(found.circuit) is None


@pytest.mark.parametrize(("name", "count"), [("refusal", 20), ("magic:odd", 3)])
def test_a_part_of_a_built_in_contrast_is_known(name: str, count: int) -> None:
    part = load_contrast(name).limited(count)
    circuit = circuit_of(part, positive=count, negative=count)
    assert discovery_prompts(circuit) == part
    assert own_contrast(circuit, DiscoveryOptions(), "any") == part
    other = circuit_of(part, positive=count + 1, negative=count)
    assert discovery_prompts(other) is None


def test_the_contrast_is_the_given_one_or_the_circuits() -> None:
    magic = load_contrast("magic")
    entry = ContrastEntry("magic", sha256=magic.sha256)
    own = replace(Circuit(()), provenance=Provenance(contrast=entry))
    given = DiscoveryOptions(contrast="refusal-small")
    assert own_contrast(own, DiscoveryOptions(), "any") == magic
    half = replace(entry, name="magic:even", sha256=magic.half(1).sha256)
    searched = replace(own, provenance=Provenance(contrast=half))
    assert own_contrast(searched, DiscoveryOptions(), "any") == magic.half(1)
    assert own_contrast(own, given, "any").name == "refusal-small"
    assert own_contrast(Circuit(()), DiscoveryOptions(), "any").name == "refusal"
    for changed in (replace(entry, sha256="0"), replace(entry, name="mine")):
        other = replace(own, provenance=Provenance(contrast=changed))
        with pytest.raises(InputError, match="--positive FILE"):
            own_contrast(other, DiscoveryOptions(), "any")
