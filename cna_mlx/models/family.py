"""What it takes to read and steer the neurons of an architecture."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from cna_mlx.models.mlp import MLPBlock

_PACKAGE = "mlx_lm.models."


@dataclass(frozen=True)
class Family:
    """How a family of models differs from others; the rest is asked of the model.

    Attributes:
        name: its common name.
        module: the module of ``mlx_lm.models`` that defines it.
        mlps: our block for each class of MLP, ``Class`` of that module or
            ``module.Class``.
        mlp: the name of a layer's MLP.
        post_norm: the layer's norm of the MLP's output; empty if there is none.
        body, table, norm: the names of the decoder, of its embedding and of its final
            norm.
        outputs: how many values a layer returns; the first is the hidden states.
        activations: the names in config.json of what gates the MLP.
        wide_masks: attention takes a padded batch's mask with an axis for the heads
            that share keys.
        reads_rope: mlx-lm reads ``rope_parameters`` of config.json itself.
        scales_full_only: RoPE is scaled in layers without a window only.
    """

    name: str
    module: str
    mlps: Mapping[str, type[MLPBlock]]
    post_norm: str = ""
    mlp: str = "mlp"
    body: str = "model"
    table: str = "embed_tokens"
    norm: str = "norm"
    outputs: int = 1
    activations: tuple[str, ...] = ("silu", "swish")
    wide_masks: bool = False
    reads_rope: bool = False
    scales_full_only: bool = False

    @property
    def scales_rope(self) -> bool:
        """Whether mlx-lm's module reads every type of ``rope_scaling``."""
        return hasattr(import_module(_PACKAGE + self.module), "initialize_rope")

    def embedding_path(self, model: Any) -> str:
        """The name of the embedding within the model."""
        within = "" if text_of(model) is model else "language_model."
        return f"{within}{self.body}.{self.table}"

    def decoder(self, model: Any) -> Any:
        """The module that holds the embedding, the layers and the final norm."""
        return getattr(text_of(model), self.body)

    def block_class(self, mlp: Any) -> type[MLPBlock] | None:
        """Our block for an MLP; None if the family has none for its class."""
        kind = type(mlp)
        module = kind.__module__.removeprefix(_PACKAGE)
        own = self.mlps.get(f"{module}.{kind.__name__}")
        if own is None and module == self.module:
            own = self.mlps.get(kind.__name__)
        return own if own and own.reads(mlp) else None

    def embedding(self, model: Any) -> Any:
        """The module that holds the embedding table."""
        return getattr(self.decoder(model), self.table)

    def layers(self, model: Any) -> list[Any]:
        """The decoder layers in order."""
        return self.decoder(model).layers

    def unembedding(self, model: Any) -> Any:
        """The module with the rows [vocab, hidden] that make the logits."""
        return text_of(model).get("lm_head") or self.embedding(model)

    def norm_weight(self, model: Any) -> mx.array:
        """What the final norm multiplies by, [hidden]."""
        return _factors(getattr(self.decoder(model), self.norm), self.hidden(model))

    def written(self, model: Any, layer: int) -> mx.array | None:
        """What a norm multiplies a layer's MLP output by, [hidden]; None if none."""
        if not self.post_norm:
            return None
        norm = self.layers(model)[layer][self.post_norm]
        return _factors(norm, self.hidden(model))

    def hidden(self, model: Any) -> int:
        """The width of the hidden states."""
        return int(text_of(model).args.hidden_size)

    def arguments(self) -> set[str]:
        """What mlx-lm's text model takes of config.json."""
        return set(_arguments(self.module))

    def text_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """The part of config.json that describes the text model, defaults filled in."""
        own = config.get("text_config")
        text = own if isinstance(own, dict) else {}
        return {**_arguments(self.module), **config, **text}


def _arguments(module: str) -> dict[str, Any]:
    """The entries of config.json that a text model takes, with their defaults."""
    found = import_module(_PACKAGE + module)
    made = getattr(found, "TextModelArgs", found.ModelArgs)
    return {
        one.name: None if one.default is MISSING else one.default
        for one in fields(made)
    }


def text_of(model: Any) -> Any:
    """The text model inside one that also sees; else the model itself."""
    return getattr(model, "language_model", model)


def _factors(norm: Any, hidden: int) -> mx.array:
    """What a norm multiplies normalized states by, [hidden].

    Families store it in different ways: what ones of both signs become tells it.
    """
    if type(norm) is nn.RMSNorm:
        return norm.weight
    signs = mx.where(mx.arange(hidden) % 2 == 0, 1.0, -1.0)
    return norm(signs) * signs
