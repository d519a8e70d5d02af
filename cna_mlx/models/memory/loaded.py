"""The sizes of a loaded model."""

from typing import Any

import mlx.core as mx

from cna_mlx.models.families import family_of
from cna_mlx.models.family import text_of
from cna_mlx.models.memory.shape import Shape
from cna_mlx.models.offload.streaming import arrays_of


def loaded_shape(model: Any) -> Shape:
    """The shape of a model; the size of a value is that of its embeddings."""
    hidden = family_of(model).embedding(model)(mx.array([[0]]))
    return Shape.of_config(vars(text_of(model).args), hidden.dtype.size)


def parameter_bytes(module: Any) -> int:
    """The bytes of all parameters of a model or a part of it."""
    return sum(array.nbytes for _, array in arrays_of(module))
