"""Translate settings of config.json that mlx-lm would misread."""

from typing import Any

from cna_mlx.errors import ModelError

# The keys of each rope type that mlx-lm implements as transformers does.
_ROPE_KEYS = {
    "default": frozenset(),
    "linear": frozenset({"factor"}),
    "llama3": frozenset(
        {
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        }
    ),
    "yarn": frozenset(
        {
            "factor",
            "original_max_position_embeddings",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
        }
    ),
}


def overrides(config: dict[str, Any]) -> dict[str, Any]:
    """Entries to update a config with, so that mlx-lm builds the trained model.

    transformers 5 writes ``rope_parameters`` where older files have ``rope_theta`` and
    ``rope_scaling``. mlx-lm's Llama and Qwen2 ignore the new key and use a default
    base: silently another model.

    Raises:
        ModelError: names a setting that cannot be mapped.
    """
    activation = config.get("hidden_act") or config.get("hidden_activation") or "silu"
    if activation not in ("silu", "swish"):
        raise ModelError(
            f"config.json: hidden_act {activation!r} is not supported: the MLP blocks "
            "of Llama and Qwen are gated by silu"
        )
    parameters = config.get("rope_parameters")
    if not parameters:
        return {}
    if not isinstance(parameters, dict):
        raise _unmapped("is not an object")
    parameters = _one_for_all_layers(parameters)
    theta = parameters.get("rope_theta", config.get("rope_theta"))
    if not isinstance(theta, int | float) or isinstance(theta, bool) or theta <= 0:
        raise _unmapped(f"has no usable rope_theta ({theta!r})")
    if config.get("rope_theta") not in (None, theta):
        raise _unmapped(
            f"has rope_theta {theta}, but the file also says {config['rope_theta']}"
        )
    scaling = _scaling(parameters)
    older = config.get("rope_scaling")
    if older and _scaling(older) != scaling:
        raise _unmapped("and rope_scaling in the same file disagree")
    return {"rope_theta": theta, "rope_scaling": scaling}


def _unmapped(what: str) -> ModelError:
    return ModelError(
        f"config.json: rope_parameters {what}; convert the model with mlx_lm.convert, "
        "or correct the file"
    )


def _one_for_all_layers(parameters: dict[str, Any]) -> dict[str, Any]:
    # Models with several kinds of attention have one entry for each kind.
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    if not nested:
        return parameters
    if len(nested) < len(parameters) or any(value != nested[0] for value in nested):
        raise _unmapped("differs between kinds of layers")
    return nested[0]


def _scaling(parameters: dict[str, Any]) -> dict[str, Any] | None:
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind not in _ROPE_KEYS:
        known = ", ".join(_ROPE_KEYS)
        raise _unmapped(f"has rope_type {kind!r} (known: {known})")
    settings = {
        key: value
        for key, value in parameters.items()
        if key not in ("rope_theta", "rope_type", "type") and value is not None
    }
    if settings.get("partial_rotary_factor") == 1:
        del settings["partial_rotary_factor"]
    if unknown := sorted(settings.keys() - _ROPE_KEYS[kind]):
        raise _unmapped(f"of type {kind!r} has the unknown key {unknown[0]!r}")
    if kind == "default":
        return None
    if "factor" not in settings:
        raise _unmapped(f"of type {kind!r} has no factor")
    return {"rope_type": kind, **settings}
