"""A case that only ``pytest -m slow`` runs, where others of its kind are fast."""

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """A parameter set of the slow suite."""
    return pytest.param(*values, marks=pytest.mark.slow)
