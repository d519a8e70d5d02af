"""A short run of what `cna-mlx bench` measures, on random weights, for CI.

CI machines are shared and slow, so no figure here is worth quoting, and only ratios
that are far off fail: a steered token that costs half as much again as a plain one, two
arms that take as long as two runs, a discovery that is hardly faster than forward
passes. The model is six layers of SmolLM2-135M's shape in float32, where the weights
weigh enough for the ratios to mean something. What is far off is measured once more
before it fails. Without --short everything is repeated more often.
The last line is one JSON object; exit code 1 if a ratio is far off.

    python benchmarks/run.py --short
"""

import argparse
import json
import sys
from dataclasses import replace

from random_models import make, tokenizer

from cna_mlx.diagnostics.bench import SHORT, Bench, Comparison, Settings, to_json
from cna_mlx.prompts import load_contrast
from cna_mlx.util.environment import environment

LAYERS = 6
FAR_OFF = {"steered_decode": 0.7, "arms_2": 1.1, "discovery_vs_forward": 1.5}


def measure(model, settings):
    """All results as plain data; each ratio is printed as it is known."""
    contrast = load_contrast("refusal")
    results = []
    for result in Bench(model, tokenizer(), contrast, settings=settings).run():
        results.append(result)
        if isinstance(result, Comparison):
            low, median, high = result.ratio.to_json()
            print(f"{result.name:<24} {median:6.2f} [{low:.2f}, {high:.2f}]")
    return to_json(results)


def far_off(found):
    """The ratios that no noise explains."""
    ratios = found["ratios"]
    return {
        name: ratios[name] for name, least in FAR_OFF.items() if ratios[name] < least
    }


def main() -> None:
    """Measure, print, and judge what is far off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="under a minute")
    arguments = parser.parse_args()
    print(__doc__.partition("\n\n")[2].partition("The last line")[0])
    model, _ = make("smollm2-135m", "float32", LAYERS)
    settings = SHORT if arguments.short else replace(Settings(), is_whole=False)
    found = measure(model, settings)
    if failed := far_off(found):
        print(f"once more, because of {', '.join(failed)}")
        found = measure(model, settings)
        failed = {name: one for name, one in far_off(found).items() if name in failed}
    for name, ratio in failed.items():
        print(f"FAR OFF: {name} {ratio:.2f}, at least {FAR_OFF[name]} expected")
    print(json.dumps({**found, "far_off": failed, "environment": environment()}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
