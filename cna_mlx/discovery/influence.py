"""How neurons at the last tokens decide whether the model refuses.

Influence takes a gradient (arXiv 2605.08513), the causal effect changes one neuron and
runs the rest of the model. Both are of R, the log-odds that the answer begins with one
of the model's own refusing openings.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.discovery.last_tokens import (
    LastTokens,
    Outcome,
    edited,
    following,
    read_prompts,
)
from cna_mlx.discovery.refusing_openings import Opening, log_odds
from cna_mlx.discovery.routed import RoutedRows, Rows, put
from cna_mlx.errors import CnaError
from cna_mlx.models.families import experts_of, family_of, widths
from cna_mlx.models.family import text_of
from cna_mlx.models.forward import Pass, spread
from cna_mlx.models.memory.forecast import (
    ABLATED_LOGITS,
    ABLATED_ROWS,
    ABLATED_TOKENS,
)
from cna_mlx.models.mlx_lm_internals import ssm_attn
from cna_mlx.util.progress import Progress, silent


def gradients(
    model: Any,
    ids: Sequence[Sequence[int]],
    openings: Sequence[Opening],
    layers: Sequence[int],
    *,
    positions: int = 1,
    progress: Progress = silent,
) -> dict[int, Rows]:
    """Return dR/da of each neuron and prompt: one backward pass for each prompt.

    The derivative is by a shift of the neuron at the last ``positions`` tokens. Only
    these tokens have a backward pass: nothing before them depends on the shift.

    Args:
        ids: token ids of each prompt.
        layers: the layers to differentiate by.

    Returns:
        [n_prompts, d_ff] in float32 for each layer with neurons. Of a mixture they are
        0 in experts that the prompt does not go to, which are not kept.

    Raises:
        CnaError: a gradient is NaN or infinite.
        InputError: as :func:`read_prompts`.
    """
    sizes = widths(model)
    layers = [layer for layer in layers if sizes[layer]]
    experts = experts_of(model)
    found: dict[int, np.ndarray | RoutedRows] = {}
    for layer in layers:
        shape, own = (len(ids), sizes[layer]), experts[layer]
        found[layer] = (
            np.zeros(shape, np.float32)
            if own is None
            else RoutedRows.empty(len(ids), *own[:2], sizes[layer])
        )
    done = 0
    for part in read_prompts(model, ids, positions):
        shapes = {layer: (len(part.rows), 1, sizes[layer]) for layer in layers}

        def total(shifts: list[mx.array], part: LastTokens = part) -> mx.array:
            pairs = zip(layers, shifts, strict=True)
            edits = {layer: (mx.ones(sizes[layer]), shift) for layer, shift in pairs}
            return log_odds(part.run(edits), openings).sum()

        with _differentiable(model):
            derived = mx.grad(total)([mx.zeros(shape) for shape in shapes.values()])
            mx.eval(derived)
        for layer, values in zip(layers, derived, strict=True):
            put(found[layer], part.rows, np.array(values[:, 0]))
        done += len(part.rows)
        progress("Differentiating", done, len(ids))
    if not all(np.isfinite(row).all() for values in found.values() for row in values):
        raise CnaError("the gradient is NaN or infinite: try the model in float32")
    return {
        layer: values if isinstance(values, RoutedRows) else mx.array(values)
        for layer, values in found.items()
    }


@contextmanager
def _differentiable(model: Any) -> Iterator[None]:
    """Compute recurrent layers without mlx-lm's own kernels, which have no gradient.

    Some are asked for by training; Mamba's is a name in the model's module.
    """
    was_training = model.training
    names = vars(import_module(type(text_of(model)).__module__))
    kernel = names.get("ssm_update")
    model.train()
    try:
        if kernel:
            names["ssm_update"] = ssm_attn
        yield
    finally:
        model.train(was_training)
        if kernel:
            names["ssm_update"] = kernel


def effects(
    prompt: LastTokens,
    neurons: Mapping[int, np.ndarray],
    targets: Mapping[int, np.ndarray] | None,
    outcome: Outcome,
) -> dict[int, np.ndarray]:
    """Return how much a change of each neuron alone lowers the outcome of a prompt.

    Each neuron is changed at the last tokens only, in a row of its own; the layers
    below it run once. The unchanged model is a row of the same batch, because a row's
    rounding depends on its batch.

    Args:
        prompt: of one row.
        neurons: indices of neurons in each layer.
        targets: what to set a layer's neurons to, [d_ff]; 0 if None.
        outcome: as :data:`Outcome`.

    Returns:
        The unchanged outcome less the changed one, for each layer's neurons.
    """
    model = prompt.model
    fed = Pass(model, prompt.ids, prompt.caches)
    hidden = fed.hidden
    caches = [spread(cache) for cache in prompt.caches]
    size, found = _rows_at_once(prompt), {}
    for layer in range(max(neurons) + 1):
        drops = []
        for part in _parts(neurons.get(layer, ()), size - 1):
            rows = len(part) + 1
            # below the layer the last tokens have been read, above they have not
            slot = fed.slots[:layer]
            held = [
                spread(caches[i] if i in slot else prompt.caches[i], rows)
                for i in range(len(caches))
            ]
            wide = mx.broadcast_to(hidden, (rows, *hidden.shape[1:]))
            target = None if targets is None else targets[layer][part]
            with edited(model, {layer: _one_a_row(part, widths(model)[layer], target)}):
                wide = fed.through(wide, held, layer)
            values = outcome(following(model, wide, held))
            drops.append(np.array(values[0] - values[1:]))
        if drops:
            found[layer] = np.concatenate(drops)
        hidden = fed.through(hidden, caches, layer, layer + 1)
        mx.eval(hidden)
    return found


def _rows_at_once(prompt: LastTokens) -> int:
    length = prompt.length
    most = min(ABLATED_ROWS, ABLATED_TOKENS // length)
    vocabulary = family_of(prompt.model).unembedding(prompt.model).weight.shape[0]
    return max(2, min(most, ABLATED_LOGITS // vocabulary))


def _parts(indices: Sequence[int] | np.ndarray, size: int) -> list[np.ndarray]:
    held = np.asarray(indices, dtype=int)
    return [held[start : start + size] for start in range(0, len(held), size)]


def _one_a_row(
    indices: np.ndarray, width: int, target: np.ndarray | None
) -> tuple[mx.array, mx.array | None]:
    """Leave the first row as it is, and replace a neuron in each of the others."""
    scale = np.ones((len(indices) + 1, 1, width), np.float32)
    own = np.arange(1, len(indices) + 1), 0, indices
    scale[own] = 0
    if target is None:
        return mx.array(scale), None
    shift = np.zeros_like(scale)
    shift[own] = target
    return mx.array(scale), mx.array(shift)
