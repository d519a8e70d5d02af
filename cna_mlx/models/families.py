"""The supported families of models, and how to walk their layers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from threading import get_ident
from typing import Any

import mlx.core as mx

from cna_mlx.errors import UnsupportedModelError
from cna_mlx.models import llama, qwen
from cna_mlx.models.mlp import GatedMLP


@dataclass(frozen=True)
class Family:
    """What it takes to read and steer the neurons of an architecture.

    Attributes:
        name: its common name.
        module: the mlx-lm module that defines it.
        block: our MLP block for it.
        attention_mask: (model, layer, hidden, cache) -> mask.
        slides: (model) -> whether any layer has a sliding window.
    """

    name: str
    module: str
    block: type[GatedMLP]
    attention_mask: Callable[[Any, int, mx.array, Any], mx.array | str | None]
    slides: Callable[[Any], bool]

    @property
    def embedding_path(self) -> str:
        """The name of the embedding within the model."""
        return "model.embed_tokens"

    def embedding(self, model: Any) -> Any:
        """The module that holds the embedding table."""
        return attrgetter(self.embedding_path)(model)

    def embed(self, model: Any, ids: mx.array) -> mx.array:
        """Token ids [batch, length] to hidden states [batch, length, hidden]."""
        return self.embedding(model)(ids)

    def layers(self, model: Any) -> list[Any]:
        """The decoder layers in order."""
        return model.model.layers

    def unembed(self, model: Any, hidden: mx.array) -> mx.array:
        """Hidden states [..., hidden] through the final norm to logits [..., vocab]."""
        hidden = model.model.norm(hidden)
        head = self.unembedding(model)
        return head.as_linear(hidden) if hasattr(head, "as_linear") else head(hidden)

    def unembedding(self, model: Any) -> Any:
        """The module with the rows [vocab, hidden] that make the logits."""
        if model.args.tie_word_embeddings:
            return self.embedding(model)
        return model.lm_head

    def norm_weight(self, model: Any) -> mx.array:
        """The weight of the final norm, [hidden]."""
        return model.model.norm.weight


_LLAMA = llama.LlamaMLP, llama.attention_mask, llama.slides
_QWEN = qwen.QwenMLP, qwen.attention_mask, qwen.slides
_FAMILIES = {
    family.module: family
    for family in (
        Family("Llama (and Mistral, SmolLM)", "mlx_lm.models.llama", *_LLAMA),
        Family("Qwen2 and Qwen2.5", "mlx_lm.models.qwen2", *_QWEN),
        Family("Qwen3", "mlx_lm.models.qwen3", *_QWEN),
    )
}


def supported() -> list[str]:
    """The names of the supported families."""
    return [family.name for family in _FAMILIES.values()]


def unsupported(what: str) -> UnsupportedModelError:
    """The error for a model without a family entry."""
    return UnsupportedModelError(
        f"{what} has MLP blocks that cna-mlx cannot read; "
        f"supported: {', '.join(supported())}"
    )


def family_of_class(model_class: type, what: str) -> Family:
    """The family of an mlx-lm model class.

    Raises:
        UnsupportedModelError: it has no entry; the message begins with ``what``.
    """
    try:
        return _FAMILIES[model_class.__module__]
    except KeyError:
        raise unsupported(what) from None


def family_of(model: Any) -> Family:
    """The family of a loaded model, after a check of all its MLP blocks.

    Raises:
        UnsupportedModelError: it has no entry, or a layer is of another kind.
    """
    what = f"a model of type {getattr(model, 'model_type', type(model).__name__)!r}"
    family = family_of_class(type(model), what)
    for index, layer in enumerate(family.layers(model)):
        mlp = layer.mlp
        if isinstance(mlp, GatedMLP):
            continue
        if type(mlp).__module__ != family.module or type(mlp).__name__ != "MLP":
            raise unsupported(f"layer {index} of {what} ({type(mlp).__name__})")
    return family


def widths(model: Any) -> tuple[int, ...]:
    """The number of neurons in each layer."""
    return tuple(
        int(layer.mlp.gate_proj.weight.shape[0])
        for layer in family_of(model).layers(model)
    )


def block_of(family: Family, layer: Any) -> GatedMLP:
    """Our block over a layer's projections: the one in place, or a new one."""
    return layer.mlp if isinstance(layer.mlp, GatedMLP) else family.block(layer.mlp)


@contextmanager
def installed(
    model: Any, layers: list[int], made: dict[int, GatedMLP] | None = None
) -> Iterator[dict[int, GatedMLP]]:
    """Install our blocks in these layers inside the block, and always remove them.

    A block of an outer context is yielded and left in place.

    Raises:
        ThreadError: another thread put a block into one of these layers.
    """
    family = family_of_class(type(model), "this model") if made else family_of(model)
    made = {} if made is None else made
    all_layers = family.layers(model)
    originals: dict[int, Any] = {}
    blocks: dict[int, GatedMLP] = {}
    try:
        for index in layers:
            layer = all_layers[index]
            mlp = layer.mlp
            if isinstance(mlp, GatedMLP):
                mlp.check_thread()
                blocks[index] = mlp
                continue
            block = made.get(index)
            if block is None or not block.is_over(mlp):
                block = made[index] = family.block(mlp)
            blocks[index], originals[index] = block, mlp
            layer.mlp, block.thread = block, get_ident()
        yield blocks
    finally:
        for index, mlp in originals.items():
            all_layers[index].mlp, blocks[index].thread = mlp, None
