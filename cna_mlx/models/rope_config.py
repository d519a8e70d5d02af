"""Translate settings of config.json that mlx-lm would misread."""

from typing import Any

from cna_mlx.errors import ModelError
from cna_mlx.models.family import Family

_KINDS = ("full", "sliding")  # of attention

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


def overrides(config: dict[str, Any], family: Family) -> dict[str, Any]:
    """Entries to update a config with, so that mlx-lm builds the trained model.

    transformers 5 writes ``rope_parameters`` where older files have ``rope_theta`` and
    ``rope_scaling``. Most models of mlx-lm ignore the new key and use a default base:
    silently another model.

    Raises:
        ModelError: names a setting that cannot be mapped.
    """
    text = config.get("text_config")
    own = text if isinstance(text, dict) else config
    _check_activation(own, family)
    parameters = own.get("rope_parameters")
    if not parameters or family.reads_rope:
        return {}
    if not isinstance(parameters, dict):
        raise _unmapped("is not an object")
    found = _mapped(own, parameters, family)
    return {"text_config": {**own, **found}} if own is text else found


def _check_activation(config: dict[str, Any], family: Family) -> None:
    known = family.activations
    activation = config.get("hidden_activation") or config.get("hidden_act") or known[0]
    if activation not in known:
        raise ModelError(
            f"config.json: hidden_act {activation!r} is not supported: the MLP blocks "
            f"of {family.name} are gated by {known[0]}"
        )


def _mapped(
    config: dict[str, Any], parameters: dict[str, Any], family: Family
) -> dict[str, Any]:
    local, parameters = _split(parameters, family)
    theta = _theta(config, parameters)
    scaling, partial = _scaling(parameters)
    older = config.get("rope_scaling")
    if older and _scaling(older)[0] != scaling:
        raise _unmapped("and rope_scaling in the same file disagree")
    found = {"rope_theta": theta, "rope_scaling": scaling, **local}
    if partial != config.get("partial_rotary_factor", 1):
        if "partial_rotary_factor" not in family.arguments():
            raise _unmapped(f"has partial_rotary_factor {partial}")
        found["partial_rotary_factor"] = partial
    return found


def _theta(config: dict[str, Any], parameters: dict[str, Any]) -> float:
    theta = parameters.get("rope_theta", config.get("rope_theta"))
    if not isinstance(theta, int | float) or isinstance(theta, bool) or theta <= 0:
        raise _unmapped(f"has no usable rope_theta ({theta!r})")
    if config.get("rope_theta") not in (None, theta):
        raise _unmapped(
            f"has rope_theta {theta}, but the file also says {config['rope_theta']}"
        )
    return theta


def _unmapped(what: str) -> ModelError:
    return ModelError(
        f"config.json: rope_parameters {what}; convert the model with mlx_lm.convert, "
        "or correct the file"
    )


def _split(
    parameters: dict[str, Any], family: Family
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Entries of the sliding layers, where mlx-lm has them, and those of the others."""
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    if not nested:
        return {}, parameters
    whole, sliding = (parameters.get(f"{kind}_attention") for kind in _KINDS)
    if whole and sliding and "rope_local_base_freq" in family.arguments():
        return {"rope_local_base_freq": _theta({}, sliding)}, whole
    if len(nested) < len(parameters) or any(value != nested[0] for value in nested):
        raise _unmapped("differs between kinds of layers")
    return {}, nested[0]


def _scaling(parameters: dict[str, Any]) -> tuple[dict[str, Any] | None, float]:
    """The settings of RoPE as mlx-lm reads them, and the part that is rotated."""
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind not in _ROPE_KEYS:
        known = ", ".join(_ROPE_KEYS)
        raise _unmapped(f"has rope_type {kind!r} (known: {known})")
    settings = {
        key: value
        for key, value in parameters.items()
        if key not in ("rope_theta", "rope_type", "type") and value is not None
    }
    partial = settings.pop("partial_rotary_factor", 1)
    if unknown := sorted(settings.keys() - _ROPE_KEYS[kind]):
        raise _unmapped(f"of type {kind!r} has the unknown key {unknown[0]!r}")
    if kind == "default":
        return None, partial
    if "factor" not in settings:
        raise _unmapped(f"of type {kind!r} has no factor")
    return {"rope_type": kind, **settings}, partial
