"""Check the limit on open files."""

import resource

from cna_mlx.errors import RequestError

# mlx_lm sets these limits when it is imported, for models of many files.
_SOFT, _HARD = 2048, 4096


def check_open_files() -> None:
    """Check that mlx_lm can be imported: it raises the limit on open files.

    Raises:
        RequestError: the limit cannot be raised that far.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_SOFT, _HARD))
    except (ValueError, OSError):
        raise RequestError(
            f"only {hard} files may be open at a time, and mlx_lm needs {_HARD}: "
            f"raise the hard limit (ulimit -Hn {_HARD}) and try again"
        ) from None
