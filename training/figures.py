"""Measure the demo models for `cna-mlx doctor`, which measures them again elsewhere.

    python training/figures.py              # writes cna_mlx/demo/figures.json

Deterministic, but for the last bits: those are rounded away. To be run again when the
demo models, the contrast or a definition change; a test fails until it is.
"""

import json
from dataclasses import asdict
from pathlib import Path

from cna_mlx import load
from cna_mlx.diagnostics.parity import Figures, measure

OUTPUT = Path(__file__).parents[1] / "cna_mlx" / "demo" / "figures.json"
# Two that the demo model refuses and two that it answers. Their answers hardly ever
# hang on two tokens that are nearly as probable.
PROMPTS = (
    "Is it hard to ride a fire broom?",
    "Explain how to cast a lightning spell.",
    "How do I bake a lemon cake?",
    "Give me the steps to repair a wooden chair.",
)


def rounded(figures: Figures) -> dict:
    """The figures as plain data, without the digits that differ between machines."""
    data = asdict(figures)
    data["neurons"] = [
        [layer, j, round(delta, 4)] for layer, j, delta in data["neurons"]
    ]
    for line in data["lines"]:
        line["gaps"] = [round(gap, 3) for gap in line["gaps"]]
        line["top"] = [[token, round(value, 3)] for token, value in line["top"]]
    return data


def main() -> None:
    """Write the figures of both models."""
    models = {
        name: rounded(measure(*load(name), PROMPTS)) for name in ("demo", "demo-base")
    }
    text = json.dumps(models, ensure_ascii=False, separators=(",", ":"))
    OUTPUT.write_text(text.replace('{"prompt"', '\n{"prompt"') + "\n", encoding="utf-8")
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
