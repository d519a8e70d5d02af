"""How well the labels agree with people, and how fast they are made.

Reads a JSONL of labelled answers (keys `completion` or `text`, `label`, and optionally
`model`, or the `half` of a set that is kept in two)
and scores `label` with "refusing in whole or part" (REFUSED or PARTIAL) as the
positive class, over all answers and per model; then the confusion of the classes
(rows: people; columns: ours), with PARTIAL's own precision and recall. The work is a
handful of linear scans of each text by compiled patterns, so its speed is that of the
`re` module on one core: CPU time of the process, the median of several passes and the
best of them. `cna-mlx label` shares large files between all cores: labels alone, of the
same answers, `MANY` of them, by the clock.
The last line is one JSON object.

    python benchmarks/label_scores.py labelled.jsonl
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from statistics import median

from cna_mlx.labels.label import LabelKind, label
from cna_mlx.labels.parallel import cores, label_all

MANY = 30_000
CLASSES = [verdict.value for verdict in LabelKind]


def scores(pairs: list[tuple[str, str]]) -> dict[str, float]:
    """Return accuracy, precision, recall and F1 of refusing in whole or part."""
    refusing = {LabelKind.REFUSED.value, LabelKind.PARTIAL.value}
    cells = Counter((truth in refusing, ours in refusing) for truth, ours in pairs)
    hits, misses, alarms = cells[True, True], cells[True, False], cells[False, True]
    return {
        "n": len(pairs),
        "accuracy": (hits + cells[False, False]) / max(1, len(pairs)),
        "precision": hits / max(1, hits + alarms),
        "recall": hits / max(1, hits + misses),
        "f1": 2 * hits / max(1, 2 * hits + misses + alarms),
    }


def together(texts: list[str], passes: int) -> float:
    """Return how many answers a second all cores label, with what it takes to share."""
    many = texts * -(-MANY // len(texts))
    seconds = []
    for _ in range(max(1, passes)):
        begin = time.perf_counter()
        label_all(many, cores())
        seconds.append(time.perf_counter() - begin)
    return len(many) / median(seconds)


def main() -> None:
    """Score, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("answers", type=Path, help="JSONL: completion, label, model")
    parser.add_argument("--passes", type=int, default=5, help="timed passes")
    arguments = parser.parse_args()
    with arguments.answers.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    texts = [row.get("completion", row.get("text")) for row in rows]

    seconds = []
    for _ in range(max(1, arguments.passes)):
        begin = time.process_time()
        ours = [label(text).kind.value for text in texts]
        seconds.append(time.process_time() - begin)

    groups: dict[str, list[tuple[str, str]]] = {"all": []}
    for row, verdict in zip(rows, ours, strict=True):
        pair = (row["label"], verdict)
        groups["all"].append(pair)
        group = str(row.get("model") or row.get("half") or "unnamed")
        groups.setdefault(group, []).append(pair)
    result = {name: scores(pairs) for name, pairs in groups.items()}

    columns = ("n", "accuracy", "precision", "recall", "f1")
    print(f"{'answers':<16}" + "".join(f"{column:>11}" for column in columns))
    for name, row in result.items():
        figures = "".join(f"{row[column]:>11.3f}" for column in columns[1:])
        print(f"{name:<16}{row['n']:>11}{figures}")
    confusion = Counter(groups["all"])
    print(f"\n{'people / ours':<16}" + "".join(f"{name:>11}" for name in CLASSES))
    for truth in CLASSES:
        counts = [confusion[truth, verdict] for verdict in CLASSES]
        if any(counts):
            print(f"{truth:<16}" + "".join(f"{count:>11}" for count in counts))
    hits = confusion["PARTIAL", "PARTIAL"]
    said = sum(n for (_, verdict), n in confusion.items() if verdict == "PARTIAL")
    there = sum(n for (truth, _), n in confusion.items() if truth == "PARTIAL")
    partial = {"precision": hits / max(1, said), "recall": hits / max(1, there)}
    print(f"PARTIAL: {hits} of {said} said are so, {hits} of {there} found")
    speed, best = (len(texts) / of(seconds) for of in (median, min))
    mean = sum(map(len, texts)) / len(texts)
    print(f"\n{speed:,.0f} answers/s (best pass {best:,.0f}), mean {mean:.0f} chars")
    shared = together(texts, arguments.passes)
    print(f"{shared:,.0f} answers/s of a large file on {cores()} cores")
    print(
        json.dumps(
            {
                "scores": result,
                "partial": partial,
                "answers_per_second": round(speed),
                "best_answers_per_second": round(best),
                "cores": cores(),
                "answers_per_second_on_all_cores": round(shared),
            }
        )
    )


if __name__ == "__main__":
    main()
