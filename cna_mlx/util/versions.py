"""Which versions made a result."""

from importlib.metadata import PackageNotFoundError, version


def versions(*names: str) -> dict[str, str]:
    """Versions by package: of cna-mlx, MLX and mlx-lm unless others are named."""
    return {name: _version(name) for name in names or ("cna-mlx", "mlx", "mlx-lm")}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
