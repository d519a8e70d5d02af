"""Load a model and its tokenizer by name, with mlx-lm."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cna_mlx.errors import InputError, ModelError
from cna_mlx.models.demo_names import DEMO_NAMES as DEMO_NAMES
from cna_mlx.models.hub import client
from cna_mlx.models.memory import machine, rates
from cna_mlx.models.memory.allocation import allocation_errors
from cna_mlx.models.memory.forecast import Shape
from cna_mlx.models.memory.plan import ARMS, Plan, check_fits
from cna_mlx.models.model_files import check_layers, check_model_files
from cna_mlx.models.open_files import check_open_files
from cna_mlx.models.other_formats import other_format
from cna_mlx.util import ranks
from cna_mlx.util.files import typed_path, without_home
from cna_mlx.util.progress import Progress, silent

if TYPE_CHECKING:
    from cna_mlx.models.family import Family

# Leave the weights on the disk; auto: only if they and a discovery do not fit.
Streaming = Literal["no", "auto", "yes"]


@dataclass(frozen=True)
class Source:
    """The source of a loaded model.

    Attributes:
        name: as the user gave it, with ~ for the home directory.
        path: the directory that was read.
        revision: the commit of a hub snapshot, else None.
        config: config.json.
        moved_to: the newer commit on the Hub, or None.
        renamed_to: the repository's new name on the Hub, or None.
        turn_end: the token that ends a turn in the chat template, if it was not an end
            token of the model; else None.
    """

    name: str
    path: Path
    revision: str | None
    config: dict[str, Any]
    moved_to: str | None = None
    renamed_to: str | None = None
    turn_end: str | None = None


@dataclass(frozen=True)
class ModelOptions:
    """How a model is found and held; see :func:`load`."""

    revision: str | None = None
    offline: bool = False
    stream: Streaming = "no"


def load(
    name: str,
    revision: str | None = None,
    *,
    offline: bool = False,
    stream: Streaming = "no",
    progress: Progress = silent,
    planned: Callable[[Plan], None] | None = None,
) -> tuple[Any, Any]:
    """Load a model and its tokenizer by hub id, directory, ``demo`` or ``demo-base``.

    Args:
        name: e.g. ``mlx-community/Llama-3.2-1B-Instruct-4bit`` or ``./my-model``.
        revision: a branch, tag or commit of a hub id.
        offline: make no request; ``HF_HUB_OFFLINE`` in the environment does the same.
        stream: leave the weights on the disk and read each layer for its turn: enough
            to discover and to gauge, too slow to generate. ``auto`` does so only if
            the weights and a discovery take more than 0.9 of the usable memory.
        progress: called with the bytes of a download, from any thread.
        planned: called with the plan of the memory, before the weights are read.

    Returns:
        mlx-lm's model and its tokenizer wrapper.

    Raises:
        ModelError: no such model, not a model, or too large for this machine.
        UnsupportedModelError: its MLP blocks have no family entry.
        HubError: the network or the Hub failed.
        OutOfMemoryError: MLX cannot allocate the weights.
        InputError: several ranks load it, and it is to stay on the disk.
    """
    if ranks.count() > 1:
        if stream == "yes":
            raise InputError(
                "--stream works on one machine: start it without mlx.launch"
            )
        stream = "no"
    model, tokenizer = ranks.each(
        lambda: _load(name, revision, offline, stream, progress, planned)
    )
    if ranks.count() > 1:
        same = [model._cna_fingerprint, str(tokenizer.chat_template)]
        ranks.check_equal(same, f"{name}: the ranks have other weights or templates")
    return model, tokenizer


def _load(
    name: str,
    revision: str | None,
    offline: bool,
    stream: Streaming,
    progress: Progress,
    planned: Callable[[Plan], None] | None,
) -> tuple[Any, Any]:
    """Load this machine's copy of a model, or this rank's part of it."""
    check_open_files()
    from cna_mlx.models.offload import streaming
    from cna_mlx.models.offload.rows import Rows
    from cna_mlx.models.tokenizer import load_tokenizer, stop_at_turn_end

    found = locate(
        name, revision, offline=offline, must_fit=stream == "no", progress=progress
    )
    path = found.path
    check_model_files(path, name)
    config = read_config(path, name)
    family = _family_of(config, name)
    text = family.text_config(config)
    check_layers(path, text, name)
    changes = _changes(path, config, family, name)
    plan = _plan(path, text, name, stream)
    if planned is not None:
        planned(plan)
    read = partial(_read, path, changes, name, plan.is_streamed)
    if ranks.count() > 1:
        from cna_mlx.models.sharded import shard

        model = _read(path, changes, name, True)
        with allocation_errors():
            model._cna_fingerprint = shard(model, name)
    else:
        model = streaming.from_disk(read, Rows(path)) if plan.is_streamed else read()
    tokenizer = load_tokenizer(path, config, name)
    # the Hub's cache names a snapshot's directory by its commit
    commit = path.name if client.COMMIT.fullmatch(path.name) else None
    model._cna_source = Source(
        without_home(name),
        path,
        commit,
        config,
        found.moved_to,
        found.renamed_to,
        stop_at_turn_end(tokenizer),
    )
    return model, tokenizer


def source_of(model: Any) -> Source | None:
    """The source of a model, if :func:`load` loaded it."""
    return getattr(model, "_cna_source", None)


def on_disk(model: Any) -> Any | None:
    """The same model with its weights left on disk; None if its files are unknown."""
    from cna_mlx.models.offload import streaming
    from cna_mlx.models.offload.rows import Rows

    source = source_of(model)
    if source is None:
        return None
    family = _family_of(source.config, source.name)
    changes = _changes(source.path, source.config, family, source.name)
    read = partial(_read, source.path, changes, source.name, True)
    return streaming.from_disk(read, Rows(source.path))


def locate(
    name: str,
    revision: str | None = None,
    *,
    offline: bool = False,
    must_fit: bool = True,
    progress: Progress = silent,
) -> client.Snapshot:
    """The local directory of a model, fetched from the Hub if necessary.

    Raises:
        ModelError: there is no such directory or repository, or it has no revisions.
        HubError: the network or the Hub failed.
    """
    if path := _directory(name):
        if revision is not None:
            raise ModelError(
                f"{name} is a directory, not a hub id: it has no revision {revision!r}"
            )
        return client.Snapshot(path)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith(("./", "../")):
        raise ModelError(
            f"{name}: no such directory, and not a hub id (organisation/name)"
        )
    return client.find(
        name, revision, offline=offline, must_fit=must_fit, progress=progress
    )


def _directory(name: str) -> Path | None:
    if name in DEMO_NAMES:
        return Path(__file__).parent.parent / "demo" / name
    try:
        path = typed_path(name)
    except InputError as error:
        raise ModelError(str(error)) from None
    if path.exists() and not path.is_dir():
        other = other_format([path.name], path.parent)
        raise ModelError(
            f"{name}: {other}"
            if other
            else f"{name} is a file; give the directory of a model, or a hub id"
        )
    return path if path.is_dir() else None


def read_config(path: Path, name: str) -> dict[str, Any]:
    """config.json of a model directory, with mlx-lm's own additions.

    Raises:
        ModelError: it is missing or is not a JSON object with a model type.
    """
    from cna_mlx.models.mlx_lm_internals import load_config

    try:
        config = load_config(path)
    except FileNotFoundError:
        general = f"no config.json in {path}; give the directory of a model"
        why = None if any(path.glob("model*.safetensors")) else _other_format(path)
        raise ModelError(f"{name}: {why or general}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or f"not JSON: {error}"
        raise ModelError(f"{name}: config.json cannot be read ({reason})") from error
    except (TypeError, AttributeError):  # mlx-lm takes both files for objects
        raise ModelError(
            f"{name}: config.json or generation_config.json is not a JSON object"
        ) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{name}: config.json has no model_type")
    return config


def _other_format(path: Path) -> str | None:
    return other_format((file.name for file in path.iterdir()), path)


def _family_of(config: dict[str, Any], name: str) -> "Family":
    """A model's family; refuse one without an entry before its weights are read."""
    from cna_mlx.models.families import family_of_config

    return family_of_config(config, f"{name} (model type {config['model_type']!r})")


def _plan(path: Path, config: dict[str, Any], name: str, stream: Streaming) -> Plan:
    """Plan the memory; refuse weights that are missing or do not fit."""
    from cna_mlx.models.weight_files import missing_file

    weights = machine.weight_bytes(path)
    if not weights and not any(path.glob("model*.safetensors")):
        why = missing_file(path) or _other_format(path)
        general = f"no model*.safetensors in {path}; convert it with mlx_lm.convert"
        raise ModelError(f"{name}: {why or general}")
    # the demo is stored in fp16, computed in float32: the same on every backend
    is_demo = name in DEMO_NAMES
    shape, here = Shape.of_config(config, 4 if is_demo else None), machine.machine()
    layer, table = machine.part_bytes(path)
    arms = ARMS if stream == "no" else 0
    plan = Plan(name, weights, shape, here, layer or None, arms=arms)
    if is_demo:  # an embedding that is cast is read whole, others row by row
        plan = replace(plan, weights=2 * weights, layer=2 * layer, table=2 * table)
    if (count := ranks.count()) > 1:
        outside = machine.outside_bytes(path) * (2 if is_demo else 1)
        plan = replace(plan.of_rank(count, outside), layer=None)
    if stream == "yes" or (stream == "auto" and plan.fit != "whole"):
        plan = replace(plan, is_streamed=True)
        check_fits(name, plan.needed, here, is_streamed=True)
        return replace(plan, rates=rates.measure_rates(path, config, shape.value_bytes))
    check_fits(name, plan.weights, here)
    return plan


def _changes(
    path: Path, config: dict[str, Any], family: "Family", name: str
) -> dict[str, Any]:
    """What to change in a config so that mlx-lm builds the model that was trained.

    Raises:
        ModelError: mlx-lm would misread a setting, or cannot read the weights.
    """
    from cna_mlx.models import rope_config
    from cna_mlx.models.weight_files import quantization_changes

    try:
        changes = rope_config.overrides(config, family)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    return changes | quantization_changes(path, config, name)


def _read(path: Path, changes: dict[str, Any], name: str, lazy: bool) -> Any:
    """The model of a directory; if lazy, only the headers of its files are read."""
    import mlx.core as mx

    from cna_mlx.models.mlx_lm_internals import load_model
    from cna_mlx.models.tokenizer import UNREADABLE
    from cna_mlx.models.weight_files import why_unreadable
    from cna_mlx.models.yarn import mend

    try:
        with allocation_errors():
            model, _ = load_model(path, lazy=lazy, model_config=changes)
    except UNREADABLE as error:
        why = why_unreadable(path, read_config(path, name), error)
        raise ModelError(f"{name}: {why}") from error
    mend(model)
    if name in DEMO_NAMES:
        model.set_dtype(mx.float32)
    return model
