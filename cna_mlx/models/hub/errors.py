"""What the Hub's client raises, as one line with the remedy."""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cna_mlx.errors import CnaError, HubError, InputError, ModelError

# httpx's errors have no root that huggingface_hub exports; since its version 2 the
# package is httpx2. hf_xet, which fetches large files, has no root at all.
_PACKAGES = ("httpx", "httpcore", "hf_xet", "huggingface_hub")
_GATED = (
    "is gated: ask for access on its Hub page, then log in (hf auth login) or set "
    "HF_TOKEN"
)


@contextmanager
def errors_as_ours(
    name: str,
    revision: str | None,
    lost: str,
    remedy: str = "check the network and run the command again",
    *,
    is_dataset: bool = False,
) -> Iterator[None]:
    """Turn what huggingface_hub raises inside into an error of ours; see :func:`quiet`.

    Args:
        name, revision: what was asked for.
        lost: what to say where there was no answer.
        remedy: what to do then.
        is_dataset: it is a dataset, and no model.

    Raises:
        ModelError: the request for a model cannot be met.
        InputError: the request for a dataset cannot be met.
        HubError: the network, the Hub or the disk failed.
    """
    try:
        with quiet():
            yield
    except CnaError:
        raise
    except Exception as error:
        ours = None
        if is_dataset:
            error = _beneath(error)
            ours = _of_dataset(error, name)
        ours = ours or _ours(error, name, revision)
        if ours is not None:
            raise ours from None
        if (reason := _reason(error)) is None:
            raise
        raise HubError(f"{lost} ({reason}); {remedy}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Let huggingface_hub say nothing by itself: what matters is said in our words."""
    from huggingface_hub import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def first_line(error: BaseException) -> str:
    """An error in a line: the first of its message, without its full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0][:200] if lines else type(error).__name__).rstrip(".:;, ")


def _ours(error: Exception, name: str, revision: str | None) -> CnaError | None:
    """Our error for an answer of the Hub or of the disk; None for any other."""
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return ModelError(f"{name} {_GATED}")
        case errors.RevisionNotFoundError():
            return ModelError(f"{name} has no revision {revision!r} on the Hub")
        case errors.RepositoryNotFoundError():
            return ModelError(
                f"{name}: no such directory here and no such repository on the Hub "
                "(or a private one: set HF_TOKEN)"
            )
        case errors.HFValidationError():
            return ModelError(f"{name}: not a hub id ({first_line(error)})")
        case errors.HfHubHTTPError():
            return _answered(error, name)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return HubError(
                f"no space left on the disk for {name}; free some, or set HF_HOME"
            )
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS):
            return HubError(
                f"{name} cannot be kept in the cache ({error.strerror}: "
                f"{error.filename}); mend its permissions, or set HF_HOME"
            )
    return None


def _beneath(error: Exception) -> Exception:
    """The Hub's answer, where the client says that a file is not in the cache."""
    from huggingface_hub import errors

    cause = error.__cause__
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(
        cause, errors.HfHubHTTPError
    ):
        return cause
    return error


def _of_dataset(error: Exception, name: str) -> CnaError | None:
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return InputError(f"{name} {_GATED}")
        case errors.RepositoryNotFoundError():
            status = 404  # also answered with 401
        case errors.HfHubHTTPError():
            status = error.response.status_code
        case _:
            return None
    if status == 404:
        return InputError(
            f"{name}: no such dataset on the Hub (or a private one: set HF_TOKEN)"
        )
    if status in (401, 403):
        return InputError(
            f"the Hub gives no access to {name} ({status}): log in (hf auth login), or "
            "check HF_TOKEN and what it may read"
        )
    return None


def _answered(error: Any, name: str) -> HubError:
    unauthorized = error.response.status_code == 401
    remedy = "check HF_TOKEN (hf auth login)" if unauthorized else "try again later"
    return HubError(f"the Hub answered for {name}: {first_line(error)}; {remedy}")


def _reason(error: BaseException) -> str | None:
    """Why there was no answer, or none of use; None for an error that is no such."""
    if isinstance(error, FileNotFoundError) and error.__cause__:
        error = error.__cause__  # theirs speaks of settings, not of what happened
    # values: a portal's login page instead of JSON; hf_xet raises RuntimeError
    if isinstance(error, OSError | ValueError | KeyError | RuntimeError):
        return first_line(error)
    package = type(error).__module__.partition(".")[0]
    return first_line(error) if package.startswith(_PACKAGES) else None
