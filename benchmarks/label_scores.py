"""How well labels agree with people, and how fast they are computed.

Reads a JSONL of labelled answers (keys `completion` or `text`, `label`, optionally
`model` or `half`) and scores `label` with "refuses in whole or part" (REFUSED or
PARTIAL) as the positive class: over all answers and per group. Then prints the
confusion matrix (rows: people; columns: ours) and the speed on one core, as the median
and the best of several passes of CPU time. The last line is one JSON object.

    python benchmarks/label_scores.py labelled.jsonl
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from cna_mlx.labels.label import LabelKind, label

REFUSING = (LabelKind.REFUSED, LabelKind.PARTIAL)
COLUMNS = ("accuracy", "precision", "recall", "f1")
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The labelled answers of a file; each has its answer under `text`."""
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    return [{**row, "text": row.get("completion", row.get("text"))} for row in rows]


def scores(truth: Sequence[str], ours: Sequence[str]) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of refusing in whole or part."""
    pairs = zip(truth, ours, strict=True)
    cells = Counter((a in REFUSING, b in REFUSING) for a, b in pairs)
    hits, misses, alarms = cells[True, True], cells[True, False], cells[False, True]
    return {
        "n": len(ours),
        "accuracy": (hits + cells[False, False]) / max(1, len(ours)),
        "precision": hits / max(1, hits + alarms),
        "recall": hits / max(1, hits + misses),
        "f1": 2 * hits / max(1, 2 * hits + misses + alarms),
    }


def score(rows: Sequence[Row]) -> dict[str, float]:
    """The scores of `label` on some answers."""
    return scores(
        [row["label"] for row in rows], [label(row["text"]).kind for row in rows]
    )


def partial(confusion: Counter[tuple[str, str]]) -> dict[str, float]:
    """Precision and recall of PARTIAL alone."""
    hits = confusion["PARTIAL", "PARTIAL"]
    found = sum(n for (_, ours), n in confusion.items() if ours == "PARTIAL")
    true = sum(n for (truth, _), n in confusion.items() if truth == "PARTIAL")
    return {"precision": hits / max(1, found), "recall": hits / max(1, true)}


def seconds_of(texts: Sequence[str]) -> float:
    """CPU seconds of one pass over all texts."""
    begin = time.process_time()
    for text in texts:
        label(text)
    return time.process_time() - begin


def main() -> None:
    """Score, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("answers", type=Path, help="JSONL: completion, label, model")
    parser.add_argument("--passes", type=int, default=5, help="timed passes")
    arguments = parser.parse_args()
    rows = read(arguments.answers)
    texts = [row["text"] for row in rows]
    groups: dict[str, list[Row]] = {"all": rows}
    for row in rows:
        name = str(row.get("model") or row.get("half") or "unnamed")
        groups.setdefault(name, []).append(row)
    found = {name: score(group) for name, group in groups.items()}
    print(f"{'answers':<16}{'n':>11}" + "".join(f"{name:>11}" for name in COLUMNS))
    for name, one in found.items():
        cells = "".join(f"{one[column]:>11.3f}" for column in COLUMNS)
        print(f"{name:<16}{one['n']:>11}{cells}")
    confusion = Counter((row["label"], str(label(row["text"]).kind)) for row in rows)
    print(f"\n{'people / ours':<16}" + "".join(f"{kind:>11}" for kind in LabelKind))
    for truth in sorted({truth for truth, _ in confusion}):
        cells = "".join(f"{confusion[truth, ours]:>11}" for ours in LabelKind)
        print(f"{truth:<16}{cells}")
    seconds = [seconds_of(texts) for _ in range(max(1, arguments.passes))]
    speed, best = (round(len(texts) / of(seconds)) for of in (median, min))
    mean = sum(map(len, texts)) / len(texts)
    print(f"\n{speed:,} answers/s (best pass {best:,}), mean length {mean:.0f}")
    result = {"scores": found, "partial": partial(confusion)}
    speeds = {"answers_per_second": speed, "best_answers_per_second": best}
    print(json.dumps({**result, **speeds}))


if __name__ == "__main__":
    main()
