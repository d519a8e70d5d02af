"""Map errors of the Hub's client to ours, for models and data sets."""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cna_mlx.errors import CnaError, HubError, InputError, ModelError

# httpx's errors have no root that huggingface_hub exports; since its version 2 the
# package is httpx2. hf_xet, which fetches large files, has no root at all.
_PACKAGES = ("httpx", "httpcore", "hf_xet", "huggingface_hub")
_TOKEN = "log in (hf auth login), or check HF_TOKEN and what it may read"
_LATER = "try again later"


@contextmanager
def hub_errors(
    name: str,
    revision: str | None,
    failure: str,
    remedy: str = "check the network and run the command again",
    *,
    is_dataset: bool = False,
) -> Iterator[None]:
    """Raise our errors for those of huggingface_hub; see also :func:`quiet`.

    Raises:
        ModelError: the request for a model cannot be met.
        InputError: the request for a data set cannot be met.
        HubError: the network, the Hub or the disk failed.
    """
    try:
        with quiet():
            yield
    except CnaError:
        raise
    except Exception as error:
        error = _answer_beneath(error)
        if (ours := _mapped(error, name, revision, is_dataset)) is not None:
            raise ours from None
        if (reason := _reason(error)) is None:
            raise
        raise HubError(f"{failure} ({reason}); {remedy}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what huggingface_hub logs and warns of inside the block.

    Its client has no argument for that: the level is the process's. What matters is
    in our errors.
    """
    from huggingface_hub import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def is_client_error(error: BaseException) -> bool:
    """Whether an exception comes from the Hub's client or its network library."""
    return any(one.__module__.startswith(_PACKAGES) for one in type(error).__mro__)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without its full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0][:200] if lines else type(error).__name__).rstrip(".:;, ")


def _mapped(
    error: Exception, name: str, revision: str | None, is_dataset: bool
) -> CnaError | None:
    """Our error for an answer of the Hub or of the disk; None for any other."""
    from huggingface_hub import errors

    unmet = InputError if is_dataset else ModelError
    missing = f"{name}: no such directory here and no such repository on the Hub"
    if is_dataset:
        missing = f"{name}: no such dataset on the Hub"
    match error:
        case errors.GatedRepoError():
            return unmet(
                f"{name} is gated: ask for access on its Hub page, then {_TOKEN}"
            )
        case errors.RevisionNotFoundError() if not is_dataset:
            return unmet(f"{name} has no revision {revision!r} on the Hub")
        case errors.RepositoryNotFoundError():
            return unmet(f"{missing} (or a private one: set HF_TOKEN)")
        case errors.HFValidationError():
            return unmet(f"{name}: not a hub id ({first_line(error)})")
        case errors.HfHubHTTPError():
            status = error.response.status_code
            if is_dataset and status == 404:
                return unmet(f"{missing} (or a private one: set HF_TOKEN)")
            if is_dataset and status in (401, 403):
                return unmet(f"the Hub gives no access to {name} ({status}): {_TOKEN}")
            answer = f"the Hub answered for {name}: {first_line(error)}"
            return HubError(f"{answer}; {_TOKEN if status == 401 else _LATER}")
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


def _answer_beneath(error: Exception) -> Exception:
    """The Hub's answer behind the client's message that a file is not in the cache."""
    from huggingface_hub import errors

    cause = error.__cause__
    is_local = isinstance(error, errors.LocalEntryNotFoundError)
    return cause if is_local and isinstance(cause, errors.HfHubHTTPError) else error


def _reason(error: BaseException) -> str | None:
    """Why there was no usable answer; None for an error of another kind."""
    if isinstance(error, FileNotFoundError) and error.__cause__:
        error = error.__cause__  # theirs speaks of settings, not of what happened
    # values: a portal's login page instead of JSON; hf_xet raises RuntimeError
    usual = OSError | ValueError | KeyError | RuntimeError
    if isinstance(error, usual) or is_client_error(error):
        return first_line(error)
    return None
