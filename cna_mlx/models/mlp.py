"""MLP blocks with access to their neurons: one class for each kind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any, ClassVar, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from cna_mlx.errors import InputError, ThreadError
from cna_mlx.models.mlx_lm_internals import swiglu
from cna_mlx.util import ranks

#: A scale, a shift, and which neurons are pinned.
Edit = tuple[mx.array | None, mx.array | None, mx.array | None]

# The projections' outputs -> the neurons' values.
Activation = Callable[..., mx.array]
#: Values of all tokens, [rows, length, ...], -> those of some, [..., ...].
Select = Callable[[mx.array], mx.array]


@contextmanager
def replaced(module: Any, **parts: Any) -> Iterator[None]:
    """Put others, of any type, in the place of a module's parts inside the block."""
    before = {name: module[name] for name in parts}
    try:
        dict.update(module, parts)  # past nn.Module, which takes modules and arrays
        yield
    finally:
        dict.update(module, before)


class Kernels(NamedTuple):
    """A kind's activation: as mlx-lm computes it, scaled, and scaled and shifted.

    The edit is fused into the activation's kernel. The cast keeps a bf16 activation
    bf16; a scale held in float32 would promote it.
    """

    plain: Activation
    scaled: Activation
    edited: Activation


def kernels(activation: Activation, plain: Activation | None = None) -> Kernels:
    """Compile the kernels of an activation.

    Args:
        activation: of the projections' outputs.
        plain: what mlx-lm calls for it, if that is compiled differently.
    """

    @partial(mx.compile, shapeless=True)
    def scaled(scale: mx.array, *parts: mx.array) -> mx.array:
        return activation(*parts) * scale.astype(parts[0].dtype)

    @partial(mx.compile, shapeless=True)
    def edited(scale: mx.array, shift: mx.array, *parts: mx.array) -> mx.array:
        dtype = parts[0].dtype
        return activation(*parts) * scale.astype(dtype) + shift.astype(dtype)

    return Kernels(plain or activation, scaled, edited)


class MLPBlock(nn.Module):
    """A block over the projections of a layer's own MLP, which it does not copy.

    Without an edit it computes what mlx-lm's block computes, to the bit. With one,
    the input ``a`` of the down-projection becomes ``scale * a + shift``.

    Of an MLP that is shared out among ranks it computes this rank's neurons. Edits are
    given for all, and the activations of all are handed out.

    Attributes:
        kind: what it is called in lists of families.
        projections: the names of what it takes over.
        kernels: its activation.
    """

    kind: ClassVar[str]
    projections: ClassVar[tuple[str, ...]]
    kernels: ClassVar[Kernels]

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        for name in self.projections:
            self[name] = mlp[name]
        #: The ranks that hold the MLP; None for one machine.
        self.sharding_group = group_of(mlp)
        # Underscored, or nn.Module would take the arrays for parameters.
        self._scale: mx.array | None = None
        self._shift: mx.array | None = None
        self._pinned: mx.array | None = None
        self._own: tuple[mx.array | None, mx.array | None] = None, None
        self._tap: tuple[Callable[[mx.array], None], Select] | None = None
        #: The thread that put the block into the model; None outside of a model.
        self.thread: int | None = None

    def is_over(self, mlp: Any) -> bool:
        """Whether the block uses the projections of this MLP."""
        return all(self[name] is mlp.get(name) for name in self.projections)

    @classmethod
    def reads(cls, mlp: Any) -> bool:
        """Whether an MLP of its class is also of this kind."""
        return True

    @classmethod
    def width_of(cls, mlp: Any) -> int:
        """The number of neurons in an MLP of this kind."""
        own = int(mlp[cls.projections[0]].weight.shape[0])
        return own * count_of(mlp)

    @classmethod
    def matrices(cls, mlp: Any) -> list[Any]:
        """The projections of an MLP of this kind; of experts, those of the first."""
        return [mlp[name] for name in cls.projections]

    @classmethod
    def downs(cls, mlp: Any) -> list[Any]:
        """Its down-projections [hidden, width], whose columns are the neurons'."""
        return [mlp.down_proj]

    @classmethod
    def experts_of(cls, mlp: Any) -> tuple[int, int, int] | None:
        """How many experts it has, of how many neurons each, and how many a token uses.

        None without experts.
        """
        return None

    @property
    def d_ff(self) -> int:
        """The number of neurons in the block."""
        return self.width_of(self)

    def parts(self, x: mx.array) -> tuple[mx.array, ...]:
        """What the activation takes: outputs of projections, [..., d_ff] each."""
        raise NotImplementedError

    def activations(self, x: mx.array) -> mx.array:
        """The neurons' values for ``x``: the input of the down-projection.

        Args:
            x: the block's input, [..., hidden], in the model's dtype.

        Returns:
            [..., d_ff] in the model's dtype, edited where an edit is installed.
        """
        return ranks.gathered(self._inner(x), self.sharding_group)

    def _inner(self, x: mx.array) -> mx.array:
        """This rank's neurons' values; those of all are handed out."""
        self.check_thread()
        found = self._edited(*self.parts(x))
        if self._tap is not None:
            listener, select = self._tap
            listener(ranks.gathered(select(found), self.sharding_group))
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

    def _edited(self, *parts: mx.array) -> mx.array:
        if self._scale is None:
            return self.kernels.plain(*parts)
        self._check_rows(parts[0])
        scale, shift = self._own
        if shift is None:
            return self.kernels.scaled(scale, *parts)
        return self.kernels.edited(scale, shift, *parts)

    def _check_rows(self, part: mx.array) -> None:
        # Broadcasting would silently turn one row into several.
        assert self._scale is not None
        if self._scale.ndim < 3:
            return
        rows, batch = self._scale.shape[0], part.shape[0]
        if part.ndim < 3 or rows != batch:
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
        self._own = self._part(scale), self._part(shift)

    def _part(self, values: mx.array | None) -> mx.array | None:
        """This rank's neurons' part of [..., d_ff]."""
        return ranks.part(values, self.sharding_group)

    @contextmanager
    def tapped(
        self, listener: Callable[[mx.array], None], select: Select = lambda all_: all_
    ) -> Iterator[None]:
        """Hand out the activations, [..., d_ff] after any edit, of each call inside.

        Args:
            select: takes those of some tokens; others need not be made.
        """
        before, self._tap = self._tap, (listener, select)
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
        return self.down_proj(self._inner(x))


def group_of(mlp: Any) -> Any | None:
    """The ranks that an MLP or a projection is shared out among; None if it is not."""
    return getattr(mlp, "sharding_group", None)


def count_of(mlp: Any) -> int:
    """How many ranks hold a part of an MLP or of a projection."""
    return 1 if (held := group_of(mlp)) is None else int(held.size())


class NoNeurons(MLPBlock):
    """What layers without an MLP have in its place: it stays where it is."""

    kind = "without neurons"
    projections = ()

    @classmethod
    def width_of(cls, mlp: Any) -> int:
        """None."""
        return 0

    @classmethod
    def downs(cls, mlp: Any) -> list[Any]:
        """None."""
        return []


class GatedMLP(MLPBlock):
    """``down(silu(gate(x)) * up(x))`` (SwiGLU), with or without biases."""

    kind = "gated by silu"
    projections = ("gate_proj", "up_proj", "down_proj")
    kernels = kernels(lambda gate, up: nn.silu(gate) * up, swiglu)

    def parts(self, x: mx.array) -> tuple[mx.array, ...]:
        """Return the gate's and the up-projection's outputs, [..., d_ff] each."""
        return self.gate_proj(x), self.up_proj(x)
