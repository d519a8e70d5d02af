"""Check that what the server needs is installed."""

from importlib.util import find_spec

from cna_mlx.errors import InputError

EXTRA = "pip install 'cna-mlx[serve]'"


def require_extra() -> None:
    """Raise InputError if the extra is not installed."""
    missing = [n for n in ("starlette", "uvicorn", "pydantic") if find_spec(n) is None]
    if missing:
        raise InputError(f"serve needs {', '.join(missing)}: {EXTRA}")
