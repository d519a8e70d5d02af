"""Where the tests' data is."""

from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
PARITY = DATA / "parity"
