"""The gated MLP block of Llama and Qwen, with access to its neurons."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from cna_mlx.errors import InputError, ThreadError
from cna_mlx.models.mlx_lm_internals import swiglu

#: A scale, a shift, and which neurons are pinned.
Edit = tuple[mx.array | None, mx.array | None, mx.array | None]

# One kernel each: the edit is fused into the gated activation. The cast keeps a
# bf16 activation bf16; a scale held in float32 would promote it.


@partial(mx.compile, shapeless=True)
def _scaled_swiglu(gate: mx.array, up: mx.array, scale: mx.array) -> mx.array:
    return nn.silu(gate) * up * scale.astype(gate.dtype)


@partial(mx.compile, shapeless=True)
def _edited_swiglu(
    gate: mx.array, up: mx.array, scale: mx.array, shift: mx.array
) -> mx.array:
    dtype = gate.dtype
    return nn.silu(gate) * up * scale.astype(dtype) + shift.astype(dtype)


class GatedMLP(nn.Module):
    """A SwiGLU MLP over the projections of a layer's own MLP, which it does not copy.

    Without an edit it computes what mlx-lm's block computes, to the bit. With one,
    the input ``a`` of the down-projection becomes ``scale * a + shift``.
    """

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.gate_proj = mlp.gate_proj
        self.up_proj = mlp.up_proj
        self.down_proj = mlp.down_proj
        # Underscored, or nn.Module would take the arrays for parameters.
        self._scale: mx.array | None = None
        self._shift: mx.array | None = None
        self._pinned: mx.array | None = None
        self._tap: Callable[[mx.array], None] | None = None
        #: The thread that put the block into the model; None outside of a model.
        self.thread: int | None = None

    def is_over(self, mlp: Any) -> bool:
        """Whether the block uses the projections of this MLP."""
        return (
            self.gate_proj is mlp.gate_proj
            and self.up_proj is mlp.up_proj
            and self.down_proj is mlp.down_proj
        )

    @property
    def d_ff(self) -> int:
        """The number of neurons in the block."""
        return int(self.gate_proj.weight.shape[0])

    def activations(self, x: mx.array) -> mx.array:
        """The neurons' values for ``x``: the input of the down-projection.

        Args:
            x: the block's input, [..., hidden], in the model's dtype.

        Returns:
            [..., d_ff] in the model's dtype, edited where an edit is installed.
        """
        self.check_thread()
        found = self._edited(self.gate_proj(x), self.up_proj(x))
        if self._tap is not None:
            self._tap(found)
        return found

    def check_thread(self) -> None:
        """See that no other thread steers or reads the model.

        Raises:
            ThreadError: the block was put into the model by another thread.
        """
        if self.thread not in (None, get_ident()):
            raise ThreadError(
                "another thread steers or reads this model: use a model in one thread "
                "at a time, or load it once for each thread"
            )

    def _edited(self, gate: mx.array, up: mx.array) -> mx.array:
        if self._scale is None:
            return swiglu(gate, up)
        self._check_rows(gate)
        if self._shift is None:
            return _scaled_swiglu(gate, up, self._scale)
        return _edited_swiglu(gate, up, self._scale, self._shift)

    def _check_rows(self, gate: mx.array) -> None:
        # Broadcasting would silently turn one row into several.
        assert self._scale is not None
        if self._scale.ndim < 3:
            return
        rows, batch = self._scale.shape[0], gate.shape[0]
        if gate.ndim < 3 or rows != batch:
            raise InputError(
                f"steering was set for {rows} rows, but the batch has {batch}: "
                "give one multiplier, or one for each row"
            )

    def set_edit(
        self,
        scale: mx.array | None,
        shift: mx.array | None = None,
        pinned: mx.array | None = None,
    ) -> None:
        """Replace ``a`` by ``scale * a + shift`` from now on; None, None ends it.

        Args:
            scale: [d_ff], or [rows, 1, d_ff] if the rows of the batch differ.
            pinned: which neurons an edit inside this one must leave alone; bool.
        """
        self._scale, self._shift, self._pinned = scale, shift, pinned

    @contextmanager
    def tapped(self, listener: Callable[[mx.array], None]) -> Iterator[None]:
        """Hand out the activations, [..., d_ff] after any edit, of each call inside."""
        before, self._tap = self._tap, listener
        try:
            yield
        finally:
            self._tap = before

    @property
    def edit(self) -> Edit:
        """The scale, the shift and the pinned neurons in force."""
        return self._scale, self._shift, self._pinned

    def __call__(self, x: mx.array) -> mx.array:
        """The block's output, [..., hidden], for its input ``x``, [..., hidden]."""
        return self.down_proj(self.activations(x))
