"""From a name to a model and its tokenizer; mlx-lm does the work."""

import errno
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cna_mlx.errors import HubError, ModelError
from cna_mlx.limits import check_open_files
from cna_mlx.models import configuration, memory

DEMO_NAMES = ("demo", "demo-base")
# transformers warns of a long text once; this is the name of that warning.
_TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"
_SNAPSHOT = re.compile(r"[0-9a-f]{40}")
# What mlx-lm and transformers come to over a damaged file or a value of a wrong kind.
_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    OSError,
)


@dataclass(frozen=True)
class Source:
    """Where a loaded model came from.

    Attributes:
        name: as the user gave it.
        path: the directory that was read.
        revision: the commit of a hub snapshot, else None.
        config: config.json.
    """

    name: str
    path: Path
    revision: str | None
    config: dict[str, Any]


def load(name: str, revision: str | None = None) -> tuple[Any, Any]:
    """Load a model and its tokenizer by hub id, directory, ``demo`` or ``demo-base``.

    Args:
        name: e.g. ``mlx-community/Llama-3.2-1B-Instruct-4bit`` or ``./my-model``.
        revision: a branch, tag or commit of a hub id.

    Returns:
        mlx-lm's model and its tokenizer wrapper.

    Raises:
        ModelError: no such model, not a model, or too large for this machine.
        UnsupportedModelError: its MLP blocks are of another kind.
        HubError: the network or the Hub failed.
    """
    check_open_files()
    path = locate(name, revision)
    config = read_config(path, name)
    _check_supported(config, name)
    if not any(path.glob("model*.safetensors")):
        raise ModelError(
            f"{name}: no model*.safetensors in {path}; convert it with mlx_lm.convert"
        )
    is_demo = name in DEMO_NAMES
    # stored in fp16, computed in float32: the same numbers on every backend
    needed = memory.weight_bytes(path) * (2 if is_demo else 1)
    memory.check_fits(name, needed, memory.machine())
    model, tokenizer = _load(path, config, name)
    if is_demo:
        import mlx.core as mx

        model.set_dtype(mx.float32)
    model._cna_source = Source(name, path, _revision(path), config)
    return model, tokenizer


def source_of(model: Any) -> Source | None:
    """Where a model came from, if :func:`load` loaded it."""
    return getattr(model, "_cna_source", None)


def context_length(model: Any) -> int | None:
    """The longest prompt and answer that the model was made for, in tokens."""
    return getattr(model.args, "max_position_embeddings", None)


def locate(name: str, revision: str | None = None) -> Path:
    """The local directory of a model, fetched from the Hub if it has to be.

    Raises:
        ModelError: there is no such directory or repository.
        HubError: the network or the Hub failed.
    """
    if name in DEMO_NAMES:
        return Path(__file__).parent.parent / "demo" / name
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # ~nobody
        raise ModelError(f"{name}: no such user's directory") from None
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(
            f"{name} is a file; give the directory of a model, or a hub id"
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith(("./", "../")):
        raise ModelError(
            f"{name}: no such directory, and not a hub id (organisation/name)"
        )
    return _snapshot(name, revision)


def read_config(path: Path, name: str) -> dict[str, Any]:
    """config.json of a model directory, with mlx-lm's own additions.

    Raises:
        ModelError: it is missing or is not a JSON object with a model type.
    """
    from mlx_lm.utils import load_config

    try:
        config = load_config(path)
    except FileNotFoundError:
        raise ModelError(
            f"{name}: no config.json in {path}; it is no model directory"
        ) from None
    except OSError as error:
        raise ModelError(
            f"{name}: config.json cannot be read ({error.strerror})"
        ) from error
    except ValueError as error:
        raise ModelError(f"{name}: config.json is not JSON ({error})") from error
    except (TypeError, AttributeError):  # mlx-lm takes both files for objects
        raise ModelError(
            f"{name}: config.json or generation_config.json is not a JSON object"
        ) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{name}: config.json names no model_type")
    return config


def _check_supported(config: dict[str, Any], name: str) -> None:
    # Before the weights are read: the answer is in the file.
    from mlx_lm.utils import _get_classes

    from cna_mlx.models.families import family_of_class, unsupported

    what = f"{name} (model type {config['model_type']!r})"
    try:
        model_class, _ = _get_classes(config)
    except (ValueError, TypeError, AttributeError):  # no such module, or no model's
        raise unsupported(what) from None
    family_of_class(model_class, what)


def _load(path: Path, config: dict[str, Any], name: str) -> tuple[Any, Any]:
    from huggingface_hub.errors import StrictDataclassError
    from mlx_lm.utils import load_model, load_tokenizer

    try:
        changes = configuration.overrides(config)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    try:
        model, config = load_model(path, model_config=changes)
    except _UNREADABLE as error:
        raise ModelError(
            f"{name}: the weights in {path} cannot be read: {_first_line(error)}; "
            "a download that was cut off? Remove the directory and fetch it again"
        ) from error
    try:
        tokenizer = load_tokenizer(path, eos_token_ids=config.get("eos_token_id"))
    except (*_UNREADABLE, StrictDataclassError) as error:
        raise ModelError(
            f"{name}: no usable tokenizer in {path}: {_first_line(error)}"
        ) from error
    # what does not fit is said by us, in words, and not in the middle of a picture
    tokenizer.deprecation_warnings[_TOO_LONG] = True
    return model, tokenizer


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0][:200] if lines else type(error).__name__).rstrip(".:;, ")


def _revision(path: Path) -> str | None:
    # The Hub's cache names a snapshot's directory by its commit.
    return path.name if _SNAPSHOT.fullmatch(path.name) else None


def _snapshot(name: str, revision: str | None) -> Path:
    from huggingface_hub import errors, snapshot_download
    from mlx_lm.utils import DEFAULT_ALLOW_PATTERNS

    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=DEFAULT_ALLOW_PATTERNS
            )
        )
    except errors.GatedRepoError:
        raise ModelError(
            f"{name} is gated: ask for access on its Hub page, then log in (hf auth "
            "login) or set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{name} has no revision {revision!r} on the Hub") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"{name}: no such directory here and no such repository on the Hub "
            "(or a private one: set HF_TOKEN)"
        ) from None
    except errors.HFValidationError as error:
        raise ModelError(f"{name}: not a hub id ({_first_line(error)})") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise HubError(
            f"{name} is not in the local cache and the Hub cannot be reached; "
            "check the network (or HF_HUB_OFFLINE) and run the command again"
        ) from None
    except errors.HfHubHTTPError as error:
        raise HubError(
            f"the Hub answered for {name}: {_first_line(error)}; try again later"
        ) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise HubError(
                f"no space left on the disk for {name}; free some, or set HF_HOME"
            ) from None
        raise HubError(f"fetching {name} failed: {_first_line(error)}") from error
    except Exception as error:
        # httpx's errors have no root that huggingface_hub exports; since its version 2
        # the package is httpx2
        if type(error).__module__.partition(".")[0].startswith(("httpx", "httpcore")):
            raise HubError(
                f"fetching {name} failed: {_first_line(error)}; what has arrived is "
                "kept: run the command again"
            ) from error
        raise
