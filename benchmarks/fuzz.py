"""Read mutated files through every door, and report what is not one clear line.

Seeded: the same inputs every time. The last line is one JSON object; exit code 1 if
something was found. `--keep DIR` writes the inputs that were found.

    python benchmarks/fuzz.py --inputs 10000
    python benchmarks/fuzz.py --door circuit --inputs 1000000
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from commandline import NEGATIVE, POSITIVE, TINY
from fuzzing import doors

from cna_mlx import PromptSet, load
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.selection import Selection


def every_door(place):
    """The doors, over the tiny model and a circuit of it."""
    tiny = load(TINY)
    contrast = PromptSet.from_prompts(POSITIVE, NEGATIVE, "red-vs-blue")
    found = run_discovery(*tiny, contrast, Selection(0.05, universal=False))
    return doors(place, tiny, found.circuit.to_text())


def tried(name, door, count, seed, keep):
    """Try a door; what was found, by kind, with how often."""
    found = Counter()
    for number, content in enumerate(door.inputs(count, seed)):
        if what := door.find(content):
            found[what[:120]] += 1
            if keep and found[what[:120]] == 1:
                path = keep / name / f"{number}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--door", help="only this door")
    parser.add_argument("--inputs", type=int, default=10_000, help="a door")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a directory for what is found")
    asked = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as place:
        for name, door in every_door(Path(place)).items():
            if asked.door not in (None, name):
                continue
            started = time.perf_counter()
            found = tried(name, door, asked.inputs, asked.seed, asked.keep)
            seconds = time.perf_counter() - started
            results[name] = dict(found.most_common())
            said = ", ".join(f"{n} x {what}" for what, n in found.most_common(8))
            print(
                f"{name}: {asked.inputs} in {seconds:.0f} s: {said or 'nothing found'}"
            )
    print(json.dumps({"inputs": asked.inputs, "seed": asked.seed, "found": results}))
    return int(any(results.values()))


if __name__ == "__main__":
    sys.exit(main())
