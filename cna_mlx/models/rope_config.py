"""Translate settings of config.json that mlx-lm would misread."""

import math
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
            "truncate",  # as models/yarn.py mends it
        }
    ),
}
# What Gemma 4's layers without a window have of their own.
_GLOBAL = {
    "global_head_dim": "head_dim",
    "num_global_key_value_heads": "num_key_value_heads",
}
# The types that modules of mlx-lm compute themselves; others have initialize_rope, or
# ignore the setting.
_OWN_TYPES = {
    "phi3": {"longrope", "su", "linear"},
    "internlm3": {"linear", "dynamic"},
    "hunyuan_v1_dense": {"dynamic"},
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
    found = _renamed(own, family)
    parameters = own.get("rope_parameters")
    if parameters and not family.reads_rope:
        if not isinstance(parameters, dict):
            raise _unmapped("is not an object")
        found |= _mapped(own, parameters, family)
    scaling = found.get("rope_scaling", own.get("rope_scaling"))
    if isinstance(scaling, dict):
        _check_type(scaling, family)
        found |= _short(scaling)
    return {"text_config": {**own, **found}} if own is text and found else found


def _renamed(config: dict[str, Any], family: Family) -> dict[str, Any]:
    """Entries under the names of mlx-lm, where transformers 5 has others."""
    known, found = family.arguments() - config.keys(), {}
    if "num_experts" in known and "num_local_experts" in config:
        found["num_experts"] = config["num_local_experts"]
    layers = config.get("per_layer_config")
    full = list(layers.values()) if isinstance(layers, dict) else []
    for older, newer in _GLOBAL.items():
        if older in known and full and isinstance(full[0], dict) and newer in full[0]:
            found[older] = full[0][newer]
    return found


def _check_type(scaling: dict[str, Any], family: Family) -> None:
    """Refuse a scaling of RoPE that mlx-lm's module would ignore."""
    kind = _type(scaling)
    if family.scales_rope or kind in _OWN_TYPES.get(family.module, {"default"}):
        return
    raise ModelError(
        f"config.json: mlx-lm ignores rope_scaling of type {kind!r} in models of "
        f"{family.name}: remove it, and keep to the context that the model was "
        "trained with"
    )


def _short(scaling: dict[str, Any]) -> dict[str, Any]:
    """Su's factors for texts of the original length, see models/context.py.

    transformers takes the long ones only beyond it, mlx-lm always.
    """
    if _type(scaling) not in ("longrope", "su"):
        return {}
    return {"rope_scaling": {**scaling, "long_factor": scaling.get("short_factor")}}


def _check_activation(config: dict[str, Any], family: Family) -> None:
    known = family.activations
    keys = ("mlp_hidden_act", "hidden_activation", "hidden_act")
    key = next((one for one in keys if config.get(one)), None)
    if key and config[key] not in known:
        raise ModelError(
            f"config.json: {key} {config[key]!r} is not supported: the MLP blocks of "
            f"{family.name} have {known[0]}"
        )


def _mapped(
    config: dict[str, Any], parameters: dict[str, Any], family: Family
) -> dict[str, Any]:
    local, parameters = _split(config, parameters, family)
    theta = _theta(config, parameters)
    scaling, partial = _scaling(parameters, family)
    older = config.get("rope_scaling")
    if older and _scaling(older, family)[0] != scaling:
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
    config: dict[str, Any], parameters: dict[str, Any], family: Family
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Entries of the sliding layers, where mlx-lm has them, and those of the others."""
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    if not nested:
        return {}, parameters
    of_kinds = (parameters.get(f"{kind}_attention") for kind in _KINDS)
    whole, sliding = (one if isinstance(one, dict) else None for one in of_kinds)
    if whole and sliding and "rope_local_base_freq" in family.arguments():
        return {"rope_local_base_freq": _theta({}, sliding)}, whole
    if whole and family.scales_full_only:
        plain = {"rope_type": "default", "rope_theta": _theta(config, whole)}
        if sliding == plain:
            return {}, whole
    if len(nested) < len(parameters) or any(value != nested[0] for value in nested):
        raise _unmapped("differs between kinds of layers")
    return {}, nested[0]


def _type(scaling: dict[str, Any]) -> str:
    return str(scaling.get("rope_type") or scaling.get("type") or "default")


def _is_yarns_own(settings: dict[str, Any]) -> bool:
    """Whether it has the attention factor that follows from the other settings."""
    factor = settings.get("factor")
    if "mscale" in settings or not isinstance(factor, int | float) or factor <= 0:
        return False
    own = 0.1 * math.log(factor) + 1
    found = settings.get("attention_factor")
    return isinstance(found, int | float) and math.isclose(found, own, rel_tol=1e-6)


def _scaling(
    parameters: dict[str, Any], family: Family
) -> tuple[dict[str, Any] | None, float]:
    """The settings of RoPE as mlx-lm reads them, and the part that is rotated."""
    kind = _type(parameters)
    is_own = kind in _OWN_TYPES.get(family.module, ())
    if kind not in _ROPE_KEYS and not is_own:
        known = ", ".join(_ROPE_KEYS)
        raise _unmapped(f"has rope_type {kind!r} (known: {known})")
    settings = {
        key: value
        for key, value in parameters.items()
        if key not in ("rope_theta", "rope_type", "type") and value is not None
    }
    partial = settings.pop("partial_rotary_factor", 1)
    if is_own:
        return {**settings, "rope_type": kind, "type": kind}, partial
    if kind == "yarn" and _is_yarns_own(settings):
        del settings["attention_factor"]
    if unknown := sorted(settings.keys() - _ROPE_KEYS[kind]):
        raise _unmapped(f"of type {kind!r} has the unknown key {unknown[0]!r}")
    if kind == "default":
        return None, partial
    if "factor" not in settings:
        raise _unmapped(f"of type {kind!r} has no factor")
    return {"rope_type": kind, **settings}, partial
