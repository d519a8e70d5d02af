"""What inspect_ai finds through its entry point: the models `cna/MODEL`.

inspect_ai imports this module at its start: what loads MLX waits for the first use.
"""

from inspect_ai.model import ModelAPI, modelapi


@modelapi(name="cna")
def cna() -> type[ModelAPI]:
    """A model with a circuit, run in inspect_ai's process."""
    from cna_mlx.serve.inspect_model import SteeredModel

    return SteeredModel
