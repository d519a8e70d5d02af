"""Kill `eval` at random moments, and compare what it leaves with an undisturbed run.

Each run is killed up to 15 times and then finished. Its samples must equal those of the
undisturbed run, the seconds aside. The last line is one JSON object.

    python benchmarks/kills.py --kills 1000
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from kills import survives

EVAL = (
    *("eval", "demo", "--prompts", "demo", "--limit", "10", "--max-tokens", "12"),
    *("--extend-to", "0", "--controls", "1", "--no-kl"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        kills, runs = survives(EVAL, Path(place), asked.kills, asked.seed)
    print(json.dumps({"kills": kills, "runs": runs, "seed": asked.seed}))


if __name__ == "__main__":
    main()
