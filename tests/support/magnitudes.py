"""How active every neuron is on some prompts: what matched controls are drawn by."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.discovery.activations import last_activations


def magnitudes(model: Any, ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Mean |a| of every neuron at the last token, [d_ff] for each layer."""
    return [np.array(mx.abs(a).mean(axis=0)) for _, a in last_activations(model, ids)]
