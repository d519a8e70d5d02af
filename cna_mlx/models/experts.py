"""Mixtures of experts: of many small MLPs a router chooses a few for each token."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from cna_mlx.models.family import Family
from cna_mlx.models.llama import LlamaMLP
from cna_mlx.models.mlp import (
    GatedMLP,
    MLPBlock,
    Select,
    count_of,
    group_of,
    kernels,
    replaced,
)
from cna_mlx.models.mlx_lm_internals import swiglu_oai
from cna_mlx.util import ranks

# A constant c is reached by c / share; a smaller share counts as this one.
_LEAST_SHARE = 2.0**-10


@dataclass
class _Slots:
    """The places of the products: one for each token and expert that it is sent to.

    Attributes:
        indices: the experts of each token, [rows, length, chosen].
        order: how the slots are sorted by expert; None if they are not.
        own: the experts' activations, [..., 1, width], once they are known.
    """

    indices: mx.array
    order: mx.array | None = None
    own: mx.array | None = None

    def sorted(self, values: mx.array) -> mx.array:
        """A value of each token and expert, [rows, length, chosen], in the slots."""
        return values if self.order is None else values.flatten()[self.order]

    def of_experts(self, values: mx.array, count: int, width: int) -> mx.array:
        """Each slot's values, [..., 1, width], of those of all neurons.

        Args:
            values: [d_ff], or [rows, 1, d_ff] if rows differ.
        """
        experts = values[..., : count * width].reshape(-1, count, width)
        chosen = self.sorted(self.indices)
        if len(experts) == 1:
            return experts[0][chosen][..., None, :]
        rows = mx.arange(len(experts))[:, None, None]
        rows = mx.broadcast_to(rows, self.indices.shape)
        return experts[self.sorted(rows), chosen][..., None, :]

    def by_token(self) -> mx.array:
        """The experts' activations, [rows, length, chosen, width]."""
        own = self.own
        assert own is not None
        own = own if self.order is None else own[mx.argsort(self.order)]
        return own.reshape(*self.indices.shape, -1)


class ExpertsBlock(MLPBlock):
    """A mixture: the sum of the chosen experts' outputs, each times its share.

    Neurons are numbered through the experts: neuron ``i`` of expert ``e`` is
    ``e * width + i``; those of a shared expert, which every token passes, come last. A
    neuron's value is what it adds through its column of the down-projection: its own
    activation times the router's share of its expert, and 0 where the router did not
    choose the expert. The router is left alone: an edit acts where it chose the expert.
    """

    kind = "experts, gated by silu"
    kernels = kernels(lambda up, gate: nn.silu(gate) * up)
    #: The names of the experts, and of the shared one if there is one.
    switch: ClassVar[str] = "switch_mlp"
    shared: ClassVar[str] = ""
    #: The projections of an expert, the last two around the activation; and our block
    #: over the shared one.
    expert_projections: ClassVar[tuple[str, ...]] = GatedMLP.projections
    shared_block: ClassVar[type[MLPBlock]] = GatedMLP

    projections = ()

    def __init__(self, mlp: Any) -> None:
        super().__init__(mlp)
        dict.update(self, mlp)  # the same names for the same weights
        rest = self.shared_of(mlp)
        # past nn.Module, which would list these weights once more
        object.__setattr__(self, "_mixture", mlp)
        shared = None if rest is None else self.shared_block(rest)
        object.__setattr__(self, "_rest", shared)

    def is_over(self, mlp: Any) -> bool:
        """Whether the block stands for this mixture."""
        parts = all(self.get(name) is part for name, part in mlp.items())
        return self._mixture is mlp and parts

    @classmethod
    def shared_of(cls, mlp: Any) -> Any:
        """The shared expert; None if there is none."""
        return mlp.get(cls.shared)

    @classmethod
    def experts_of(cls, mlp: Any) -> tuple[int, int, int]:
        """As in :class:`MLPBlock`; a shared expert is not counted."""
        count, width = cls._held(mlp)
        own = getattr(mlp, "_mixture", mlp)
        chosen = (getattr(own, name, 0) for name in ("top_k", "num_experts_per_tok"))
        return count, width * count_of(mlp), max(chosen)

    @classmethod
    def _held(cls, mlp: Any) -> tuple[int, int]:
        """The number of experts, and of the neurons of each that this rank holds."""
        count, width, _ = mlp[cls.switch][cls.expert_projections[0]].weight.shape
        return count, width

    @classmethod
    def width_of(cls, mlp: Any) -> int:
        """The number of neurons of all experts."""
        count, width, _ = cls.experts_of(mlp)
        rest = cls.shared_of(mlp)
        return count * width + (0 if rest is None else cls.shared_block.width_of(rest))

    @classmethod
    def matrices(cls, mlp: Any) -> list[Any]:
        """The projections of the first expert, and of the shared one."""
        rest = cls.shared_of(mlp)
        first = [of_expert(mlp[cls.switch][one], 0) for one in cls.expert_projections]
        return [*first, *(cls.shared_block.matrices(rest) if rest is not None else [])]

    @classmethod
    def downs(cls, mlp: Any) -> list[Any]:
        """The down-projection of each expert, the shared one's last."""
        count, _, _ = cls.experts_of(mlp)
        down, rest = mlp[cls.switch][cls.expert_projections[-1]], cls.shared_of(mlp)
        found = [of_expert(down, expert) for expert in range(count)]
        return [*found, *([] if rest is None else [rest.down_proj])]

    def activations(self, x: mx.array) -> mx.array:
        """The neurons' values for ``x``: see above.

        Args:
            x: the block's input, [rows, length, hidden].

        Returns:
            [rows, length, d_ff], edited where an edit is installed.
        """
        taken: list[mx.array] = []
        with self.tapped(taken.append):
            self(x)
        return taken[0]

    def __call__(self, x: mx.array) -> mx.array:
        """The block's output, [rows, length, hidden], for its input ``x``."""
        self.check_thread()
        if self._scale is None and self._tap is None:
            return self._mixture(x)
        if self._scale is not None:
            self._check_rows(x)
        needs_shares = self._tap is not None or self._shift is not None
        shares = self._shares(x) if needs_shares else None
        slots: list[_Slots] = []
        parts: dict[str, Any] = {self.switch: partial(self._experts, slots, shares)}
        taken: list[mx.array] = []
        with self._rest_steered(shares, taken) as rest:
            parts |= rest
            with replaced(self._mixture, **parts):
                found = self._mixture(x)
        if self._tap is not None:
            listener, select = self._tap
            listener(self._values(slots[0], shares, taken, select))
        return found

    def _shares(self, x: mx.array) -> mx.array:
        """What the experts' outputs are multiplied by, [rows, length, experts + 1].

        The last is the shared expert's. The mixture itself tells: it runs with experts
        that put out their own number, one-hot.
        """
        ones = mx.eye(self.experts_of(self)[0] + 1, dtype=x.dtype)
        parts: dict[str, Any] = {self.switch: lambda _, indices: ones[indices]}
        if self._rest is not None:
            parts[self.shared] = lambda _: ones[-1]
        with replaced(self._mixture, **parts), _unshared(self._mixture):
            return self._mixture(x)

    @contextmanager
    def _rest_steered(
        self, shares: mx.array | None, taken: list[mx.array]
    ) -> Iterator[dict[str, Any]]:
        """Our block in the place of the shared expert, with its part of the edit."""
        if self._rest is None:
            yield {}
            return
        count, width, _ = self.experts_of(self)
        scale, shift = (
            None if one is None else one[..., count * width :]
            for one in (self._scale, self._shift)
        )
        if shift is not None and shares is not None:
            shift = shift / mx.maximum(shares[..., -1:], _LEAST_SHARE)
        self._rest.set_edit(scale, shift)
        with self._rest.tapped(taken.append):
            yield {self.shared: self._rest}

    def _experts(
        self,
        kept: list[_Slots],
        shares: mx.array | None,
        x: mx.array,
        indices: mx.array,
    ) -> mx.array:
        """The experts' outputs [rows, length, chosen, hidden], by mlx-lm's own code."""
        switch, slots = self[self.switch], _Slots(indices)
        name, sizes = self.expert_projections[-2], self._held(self)
        projection, activation = switch[name], switch.activation
        kept.append(slots)

        def up(x: mx.array, experts: mx.array, **named: Any) -> mx.array:
            if experts.ndim < indices.ndim:  # many: mlx-lm sorts them
                slots.order = mx.argsort(indices.flatten())
            return projection(x, experts, **named)

        def activated(*own: mx.array) -> mx.array:
            slots.own = self._activated(activation, sizes, slots, shares, *own)
            return slots.own

        with replaced(switch, **{name: up, "activation": activated}):
            return switch(x, indices)

    def _activated(
        self,
        plain: Any,
        sizes: tuple[int, int],
        slots: _Slots,
        shares: mx.array | None,
        *own: mx.array,
    ) -> mx.array:
        """The experts' activations in the slots, edited where an edit is installed."""
        if self._scale is None:
            return plain(*own)
        held, added = self._own
        assert held is not None
        scale = slots.of_experts(held, *sizes)
        if added is None or shares is None:
            return self.kernels.scaled(scale, *own)
        shift = slots.of_experts(added, *sizes)
        of_chosen = mx.take_along_axis(shares, slots.indices, axis=-1)
        share = mx.maximum(slots.sorted(of_chosen), _LEAST_SHARE)
        return self.kernels.edited(scale, shift / share[..., None, None], *own)

    def _part(self, values: mx.array | None) -> mx.array | None:
        """This rank's neurons of the experts; a shared one takes its own."""
        if values is None or self.sharding_group is None:
            return values
        count, width, _ = self.experts_of(self)
        experts = values[..., : count * width]
        by_expert = experts.reshape(*values.shape[:-1], count, width)
        return ranks.part(by_expert, self.sharding_group).flatten(-2)

    def _values(
        self,
        slots: _Slots,
        shares: mx.array | None,
        rest: list[mx.array],
        select: Select,
    ) -> mx.array:
        """All neurons' values at some tokens, [..., d_ff]."""
        assert shares is not None
        count, width, _ = self.experts_of(self)
        indices, own, shares = map(select, (slots.indices, slots.by_token(), shares))
        own = ranks.gathered(own, self.sharding_group)
        share = mx.take_along_axis(shares, indices, axis=-1)
        own = (own * share[..., None]).reshape(-1, *own.shape[-2:])
        found = mx.zeros((len(own), count, width), own.dtype)
        found[mx.arange(len(own))[:, None], indices.reshape(len(own), -1)] = own
        found = found.reshape(*indices.shape[:-1], count * width)
        if not rest:
            return found
        return mx.concatenate([found, select(rest[0]) * shares[..., -1:]], axis=-1)


@contextmanager
def _unshared(mixture: Any) -> Iterator[None]:
    """Let a mixture's output inside the block be this rank's alone."""
    held = group_of(mixture)
    mixture.sharding_group = None
    try:
        yield
    finally:
        mixture.sharding_group = held


def of_expert(projection: Any, expert: int) -> nn.Module:
    """One expert's part of a projection, as a projection [rows, columns]."""
    found = nn.Module()
    for name, array in projection.items():
        found[name] = array[expert]
    for name in ("group_size", "bits", "mode", "sharding_group"):
        if hasattr(projection, name):
            setattr(found, name, getattr(projection, name))
    return found


class SharedExpertBlock(ExpertsBlock):
    """A mixture with a shared expert, which has a share of its own."""

    shared = "shared_expert"


class GlmExpertsBlock(ExpertsBlock):
    """GLM's mixture: its shared experts are one MLP, added whole."""

    shared = "shared_experts"


class GptOssExpertsBlock(ExpertsBlock):
    """gpt-oss's mixture: ``(up + 1) * gate * sigmoid(1.702 gate)``, clipped; biases."""

    kind = "experts, gated by a clipped sigmoid"
    switch = "experts"
    kernels = kernels(lambda up, gate: swiglu_oai(gate, up))


FAMILIES = (
    Family(
        "Mixtral",
        "mixtral",
        {"MixtralSparseMoeBlock": ExpertsBlock},
        mlp="block_sparse_moe",
    ),
    Family("gpt-oss", "gpt_oss", {"MLPBlock": GptOssExpertsBlock}),
    Family("GLM-4.5 and 4.6", "glm4_moe", {"MLP": LlamaMLP, "MoE": GlmExpertsBlock}),
)
