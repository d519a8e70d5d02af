"""The supported families of models, and how to walk their layers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import mlx.core as mx

from cna_mlx.errors import UnsupportedModelError
from cna_mlx.models import experts, fused, gemma, llama, nemotron, qwen
from cna_mlx.models.family import Family as Family
from cna_mlx.models.family import text_of
from cna_mlx.models.mlp import MLPBlock, NoNeurons
from cna_mlx.models.mlx_lm_internals import model_classes

_FAMILIES = {
    family.module: family
    for one in (llama, qwen, gemma, fused, experts, nemotron)
    for family in one.FAMILIES
}
# Modules around a text model of another one.
_AROUND = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "qwen3_5_moe": "qwen3_5",
}

# Keys of config.json that say what cannot be read: see docs/design.md.
_REFUSED = {
    "enable_moe_block": "experts beside its MLP",
    "moe_latent_size": "experts of a narrower stream",
}


def supported() -> list[str]:
    """The names of the supported families."""
    return [family.name for family in _FAMILIES.values()]


def all_families() -> list[Family]:
    """The supported families."""
    return list(_FAMILIES.values())


def by_kind() -> dict[str, list[str]]:
    """The names of the supported families by the kind of their MLP.

    That of the experts if a family has some.
    """
    found: dict[str, list[str]] = {}
    for family in _FAMILIES.values():
        *_, block = family.mlps.values()
        found.setdefault(block.kind, []).append(family.name)
    return found


def unsupported(what: str) -> UnsupportedModelError:
    """The error for a model without a family entry."""
    return UnsupportedModelError(
        f"{what} has MLP blocks that cna-mlx cannot read; "
        f"supported: {', '.join(supported())}"
    )


def family_of_config(config: dict[str, Any], what: str) -> Family:
    """The family of the text model that mlx-lm makes of config.json.

    Raises:
        UnsupportedModelError: it has no entry; the message begins with ``what``.
    """
    try:
        module = _module(model_classes(config)[0])
    # no such module, none of a model, or one that needs other packages and gives up
    except (ValueError, TypeError, AttributeError, ImportError, SystemExit):
        raise unsupported(what) from None
    if module == "mistral3":
        inner = config.get("text_config", {}).get("model_type")
        module = "llama" if inner == "mistral" else inner
    family = _family(_AROUND.get(module, module), what)
    text = family.text_config(config)
    for key, why in _REFUSED.items():
        if text.get(key):
            raise unsupported(f"{what} ({why})")
    return family


def family_of(model: Any) -> Family:
    """The family of a loaded model, after a check of all its MLP blocks.

    Raises:
        UnsupportedModelError: it has no entry, or a layer is of another kind.
    """
    family, what = _of_class(model)
    for index, layer in enumerate(family.layers(model)):
        mlp = layer.get(family.mlp)
        if not isinstance(mlp, MLPBlock) and not family.block_class(mlp):
            raise unsupported(f"layer {index} of {what} ({type(mlp).__name__})")
        if "experts" in layer:
            raise unsupported(f"layer {index} of {what} (experts beside its MLP)")
    return family


def _of_class(model: Any) -> tuple[Family, str]:
    """The family of a model by its class alone, and the words for the model."""
    what = f"a model of type {getattr(model, 'model_type', type(model).__name__)!r}"
    return _family(_module(type(text_of(model))), what), what


def _family(module: str, what: str) -> Family:
    if module not in _FAMILIES:
        raise unsupported(what)
    return _FAMILIES[module]


def _module(model_class: type) -> str:
    return model_class.__module__.removeprefix("mlx_lm.models.")


def widths(model: Any) -> tuple[int, ...]:
    """The number of neurons in each layer."""
    family = family_of(model)
    return tuple(
        block_class_of(family, layer).width_of(layer[family.mlp])
        for layer in family.layers(model)
    )


def experts_of(model: Any) -> tuple[tuple[int, int, int] | None, ...]:
    """How many experts each layer has, of how many neurons, and how many a token uses.

    None for a layer without.
    """
    family = family_of(model)
    return tuple(
        block_class_of(family, layer).experts_of(layer[family.mlp])
        for layer in family.layers(model)
    )


def downs(model: Any, layer: int) -> list[Any]:
    """A layer's down-projections [hidden, width]: their columns are the neurons'.

    One for each expert, and the last one for the neurons that every token passes.
    """
    family = family_of(model)
    own = family.layers(model)[layer]
    return block_class_of(family, own).downs(own[family.mlp])


def block_class_of(family: Family, layer: Any) -> type[MLPBlock]:
    """The class of our block for a layer, in place or not."""
    mlp = layer[family.mlp]
    found = type(mlp) if isinstance(mlp, MLPBlock) else family.block_class(mlp)
    assert found is not None  # family_of has checked
    return found


def block_of(family: Family, layer: Any) -> MLPBlock:
    """Our block over a layer's projections: the one in place, or a new one."""
    mlp = layer[family.mlp]
    return mlp if isinstance(mlp, MLPBlock) else block_class_of(family, layer)(mlp)


def projections(model: Any, layer: int) -> list[Any]:
    """The projections of a layer's MLP; of experts, those of the first."""
    family = family_of(model)
    own = family.layers(model)[layer]
    return block_class_of(family, own).matrices(own[family.mlp])


@contextmanager
def installed(
    model: Any, layers: list[int], made: dict[int, MLPBlock] | None = None
) -> Iterator[dict[int, MLPBlock]]:
    """Install our blocks in these layers inside the block, and always remove them.

    A block of an outer context is yielded and left in place. A layer without neurons
    has none.

    Raises:
        ThreadError: another thread put a block into one of these layers.
    """
    family = _of_class(model)[0] if made else family_of(model)
    made = {} if made is None else made
    all_layers = family.layers(model)
    originals: dict[int, Any] = {}
    blocks: dict[int, MLPBlock] = {}
    try:
        for index in layers:
            layer = all_layers[index]
            mlp = layer[family.mlp]
            if isinstance(mlp, MLPBlock):
                mlp.check_thread()
                blocks[index] = mlp
                continue
            block = made.get(index)
            if block is None or not block.is_over(mlp):
                if block_class_of(family, layer) is NoNeurons:
                    continue
                block = made[index] = block_of(family, layer)
            blocks[index], originals[index] = block, mlp
            layer[family.mlp], block.thread = block, get_ident()
        yield blocks
    finally:
        for index, mlp in originals.items():
            all_layers[index][family.mlp], blocks[index].thread = mlp, None


@contextmanager
def tapped_last(model: Any, layers: list[int]) -> Iterator[dict[int, mx.array]]:
    """The activations at the last token of each call inside the block.

    Yields:
        [rows, d_ff] in float32 by layer, filled by the call.
    """
    taken: dict[int, mx.array] = {}

    def keep(layer: int, activations: mx.array) -> None:
        taken[layer] = activations[:, -1].astype(mx.float32)

    with installed(model, layers) as blocks, ExitStack() as stack:
        for layer, block in blocks.items():
            stack.enter_context(block.tapped(partial(keep, layer)))
        yield taken
