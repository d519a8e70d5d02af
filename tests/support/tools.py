"""Programs of others that the tests run, and what the page gives them."""

import os
import re
import shutil
from pathlib import Path

import pytest

_PAGE = Path(__file__).parents[2] / "docs" / "evaluation-tools.md"


def executable(name: str) -> str:
    """The program, from CNA_MLX_NAME or the path; skip the test where it is missing."""
    variable = f"CNA_MLX_{name.upper()}"
    found = os.environ.get(variable) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: {variable} says where it is")
    return found


def block(section: str, language: str) -> str:
    """The first block of a language in a section of the page."""
    _, _, text = _PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, section
    return found[1]
