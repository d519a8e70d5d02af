"""Gauge prompts along a circuit, without generating."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.routed import RoutedRows
from cna_mlx.models.families import experts_of, widths
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.prompts.chat_template import Rendering, reference_hash
from cna_mlx.steering.gauge_scale import Scale, finite


def gauges(model: Any, circuit: Circuit, ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the gauge of each prompt, [n_prompts] in float64; prefill only.

    Raises:
        CircuitError: the circuit has no means, or does not fit the model.
        InputError: a prompt is empty or too long.
    """
    circuit.check_shape(widths(model), experts_of(model))
    scale = Scale(circuit)
    total = np.zeros(len(ids))
    for layer, found in last_activations(model, ids, routed=True):
        is_routed = isinstance(found, RoutedRows)
        total += scale.part(layer, found if is_routed else np.array(found))
    return finite(total)


def is_calibrated(
    model: Any, tokenizer: Any, circuit: Circuit, rendering: Rendering
) -> bool:
    """Whether a gauge was measured on these weights, with this rendering."""
    own = circuit.provenance.rendering
    return (
        circuit.model.fingerprint == fingerprint(model)
        and own is not None
        and own.reference_sha256 == reference_hash(tokenizer, rendering)
    )
