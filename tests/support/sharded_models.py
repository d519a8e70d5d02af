"""A program of two ranks: compare models that are shared out with whole ones.

Rank 0 prints a JSON object with the largest relative errors of each family; see
tests/models/test_sharded.py.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_tokenizer
from paths import PARITY
from tiny_models import Ends, make_model

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.attribution import output_direction
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.rankings import _written
from cna_mlx.discovery.selection import Selection
from cna_mlx.discovery.weight_norms import column_norms
from cna_mlx.errors import ModelError
from cna_mlx.models.families import experts_of, widths
from cna_mlx.models.fingerprint import fingerprint, quantization
from cna_mlx.models.sharded import shard
from cna_mlx.prompts import PromptSet
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer, Gauged
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import Edits, MeanDifference
from cna_mlx.strength import Pin
from cna_mlx.util import ranks

POSITIVE = ("Stop that at once!", "No, never do this.", "Leave me alone!", "Go away!!")
NEGATIVE = ("What is a garden?", "How old is the sea?", "Who is it?", "Why so blue?")
IDS = [[1, 5, 9, 200, 31], [1, 5, 17], [1, 5, 40, 41, 42, 43, 44, 300, 2, 7]]


def error(found: Any, expected: Any) -> float:
    """The largest difference, relative to the largest value."""
    found, expected = (np.array(one, dtype=np.float64) for one in (found, expected))
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def activations(model: Any) -> list[Any]:
    return [np.array(found) for _, found in last_activations(model, IDS)]


def logits(model: Any, arms: Any, rows: int) -> Any:
    """A prompt and one step more, in rows of different arms."""
    cache = make_prompt_cache(model)
    with Edits(model, arms).installed():
        model(mx.array([IDS[2]] * rows), cache=cache)
        found = model(mx.array([[8]] * rows), cache=cache)
    return np.array(found.astype(mx.float32))


def steering(sizes: tuple[int, ...]) -> list[Any]:
    """Rows: none, scaled, pinned, shifted, and both of two circuits."""
    layers = [layer for layer, size in enumerate(sizes) if size]
    places = [(layer, index) for layer in layers for index in range(0, sizes[layer], 3)]
    one = Circuit.from_neurons([(*place, 1.0) for place in places])
    other = Circuit.from_neurons([(layers[0], 1, 2.0), (layers[-1], 2, -1.0)])
    random = np.random.default_rng(0)
    deltas = [random.standard_normal(size).astype(np.float32) for size in sizes]
    shift = MeanDifference(tuple(deltas))
    return [
        (),
        ((one, 0.0),),
        ((one, 2.0), (other, -0.5)),
        ((one, Pin(0.25)),),
        ((shift, 0.3),),
        ((shift, -0.2), (other, 0.5)),
    ]


def answers(model: Any, tokenizer: Any, circuit: Circuit) -> tuple[Any, list[Any]]:
    arms = [Arm("baseline"), Arm.of(circuit, 0.0), Arm.of(circuit, 1.5)]
    events = list(
        generate_arms(model, tokenizer, IDS, arms, max_tokens=8, gauge=circuit)
    )
    events.sort(key=lambda event: (event.prompt, getattr(event, "arm", -1)))
    gauges = [event.value for event in events if isinstance(event, Gauged)]
    # of each prompt and arm
    return gauges, [event.token_ids for event in events if isinstance(event, Answer)]


def compare(family: str, precision: str, tokenizer: Any) -> dict[str, Any]:
    # a group of quantized weights is never cut
    changes = {"moe_intermediate_size": 64} if family == "qwen3_moe" else {}
    whole, part = (make_model(family, precision, **changes) for _ in range(2))
    part._cna_fingerprint = shard(part, family)
    sizes = widths(whole)
    arms = steering(sizes)
    contrast = PromptSet("set", "", POSITIVE, NEGATIVE)
    found: dict[str, Any] = {
        "same": [
            widths(part) == sizes,
            experts_of(part) == experts_of(whole),
            fingerprint(part) == fingerprint(whole),
            quantization(part) == quantization(whole),
        ],
        "held": sum(a.nbytes for _, a in _arrays(part))
        / sum(a.nbytes for _, a in _arrays(whole)),
    }
    both: dict[str, Callable[[Any], Any]] = {
        "logits": lambda model: logits(model, arms, len(arms)),
        "one row": lambda model: logits(model, arms[2], 1),
        "activations": lambda model: np.concatenate(activations(model), axis=-1),
        "norms": lambda model: np.concatenate(
            [
                np.array(column_norms(*_written(model, n)))
                for n, size in enumerate(sizes)
                if size
            ]
        ),
        "columns": lambda model: np.stack(
            [
                np.array(output_direction(model, n, index))
                for n, size in enumerate(sizes)
                if size
                for index in (0, size // 2, size - 1)
            ]
        ),
    }
    for name, read in both.items():
        found[name] = error(read(part), read(whole))
    circuits = []
    for model in (whole, part):
        selection = Selection(0.05, universal=False)
        discovery = run_discovery(model, tokenizer, contrast, selection)
        circuits.append(discovery.circuit)
    own, other = (
        {one[:2]: one.delta for one in circuit.neurons} for circuit in circuits
    )
    found["missing"] = len(own.keys() - other.keys())
    shared = sorted(own.keys() & other.keys())
    found["deltas"] = error([other[n] for n in shared], [own[n] for n in shared])
    ends = Ends(tokenizer)
    (gauges, texts), (gauged, said) = (
        answers(model, ends, circuits[0]) for model in (whole, part)
    )
    found["gauge"] = error(gauged, gauges)
    found["texts"] = len(texts)
    found["ties"] = [
        tie(whole, IDS[row // 3], (circuits[0], (1.0, 0.0, 1.5)[row % 3]), *both)
        for row, both in enumerate(zip(texts, said, strict=True))
        if both[0] != both[1]
    ]
    return found


def tie(model: Any, prompt: list[int], steering: Any, a: Any, b: Any) -> float:
    """How far apart the logits of two answers' first different tokens are."""
    same = next(
        n for n, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1]
    )
    with Edits(model, [(steering,)]).installed():
        found = np.array(
            model(mx.array([[*prompt, *a[:same]]]))[0, -1].astype(mx.float32)
        )
    return float(abs(found[a[same]] - found[b[same]]) / np.abs(found).max())


def refused() -> list[str]:
    """What is said of models that cannot be shared out."""
    said = []
    for family, changes in (
        ("mixtral", {}),
        ("gemma2", {}),
        ("llama", {"num_attention_heads": 3, "num_key_value_heads": 3}),
        ("llama", {"intermediate_size": 129}),
    ):
        try:
            shard(make_model(family, **changes), family)
        except ModelError as error:
            said.append(str(error))
    return said


def _arrays(model: Any) -> list[Any]:
    from cna_mlx.models.offload.streaming import arrays_of

    return arrays_of(model)


if __name__ == "__main__":
    ranks.enter()
    own = load_tokenizer(PARITY / "llama_rope3")
    kinds = [one.split(":") for one in sys.argv[1:]]
    result = {":".join(kind): compare(*kind, own) for kind in kinds}
    sys.stdout.write(json.dumps({**result, "refused": refused()}))
