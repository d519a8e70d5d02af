"""How much of the labels' agreement would be left on answers of another model.

The rules are written by hand, with the shared answers at hand, so a score on those is
fitted. Two things can be taken back. What a rule has learned from a model: score each
model's answers with nothing but what earns its place on the other model's, that is the
verbs of declining, the patterns, the signals and the moral words that occur in answers
of the other model that people call refusing (`rules`). And the weights: fit them anew,
by logistic regression and rounded to whole numbers, without the answers that are
scored: without that model (`weights`), without either (`both`), or, over all answers,
without a fold of a tenth (`folds`). Beside them what a list would get: the words that
decide refusals of one model, looked for in the other's answers (`list`).
The last line is one JSON object.

    python benchmarks/label_folds.py labelled.jsonl
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from label_scores import scores
from sklearn.linear_model import LogisticRegression

from cna_mlx.labels import label as labels
from cna_mlx.labels import moralizing_patterns as disapproving
from cna_mlx.labels import refusal_patterns as declining
from cna_mlx.labels import scoring as evidence
from cna_mlx.labels.label import LabelKind, label
from cna_mlx.labels.normalization import Folded, words_of
from cna_mlx.labels.partial_answers import is_announced
from cna_mlx.labels.pattern_index import signal

REFUSING = {LabelKind.REFUSED.value, LabelKind.PARTIAL.value}
FOLDS = 10
Row = dict[str, Any]


def score(rows: Sequence[Row]) -> dict[str, float]:
    """Return the scores of the labeller as it stands."""
    pairs = [(row["label"], label(row["completion"]).kind.value) for row in rows]
    return scores(pairs)


def counts(text: str) -> dict[str, int]:
    """Return all signals of an opening with their counts."""
    raw = text.strip()
    folded = Folded(raw).text
    there = evidence.CueSet(folded, labels._first_sentence(folded))
    found, _ = evidence.evidence(folded, there, is_whole=True)
    return {**found, "helps": int(is_announced(folded, raw, 0))}


@contextmanager
def weighed(weights: dict[str, int]) -> Iterator[None]:
    """Label with other weights."""
    before = evidence._MOST
    with patch.dict(evidence.WEIGHTS, weights), patch.object(evidence, "_MOST", before):
        evidence._MOST = evidence.bounds()
        yield


def declines(text: str) -> bool:
    """Tell whether an answer declines in words, whatever the weights are."""
    with weighed(dict.fromkeys(evidence.WEIGHTS, -1)):
        return label(text).kind.value in REFUSING


def fitted(rows: Sequence[Row]) -> dict[str, int]:
    """Return weights fitted to answers that do not decline in words."""
    open_rows = [row for row in rows if not declines(row["completion"])]
    names = list(evidence.WEIGHTS)
    found = [counts(row["completion"]) for row in open_rows]
    table = np.array([[one.get(name, 0) for name in names] for one in found], float)
    truth = np.array([row["label"] in REFUSING for row in open_rows])
    fit = LogisticRegression(C=0.5, max_iter=5000).fit(table, truth)
    unit = -fit.intercept_[0] / (evidence.ENOUGH - 0.5)
    whole = np.rint(fit.coef_[0] / unit).astype(int)
    return dict(zip(names, whole.tolist(), strict=True))


class Seen:
    """What earns its place on some answers: their declines, signals and words."""

    def __init__(self, rows: Sequence[Row]) -> None:
        refusing = [row["completion"] for row in rows if row["label"] in REFUSING]
        self.verbs: set[str] = set()
        self.phrases: set[str] = set()
        self.patterns: set[int] = set()
        self.signals: set[str] = set()
        self.words: set[str] = set()
        for text in refusing:
            self._see(text)

    def _see(self, text: str) -> None:
        folded = Folded(text.strip()).text
        for match in declining.DECLINE.finditer(folded):
            self.verbs.add(match[0].split()[-1])
        for number, one in enumerate(declining.DECLINE_BARE):
            if one.search(folded, evidence.WINDOW):
                self.patterns.add(number)
        self.signals |= counts(text).keys()
        self.words |= set(words_of(folded[: evidence.WINDOW]))
        span = label(text).span
        if span is not None:
            self.phrases.add(" ".join(text[slice(*span)].lower().split()))


class SomeDeclines:
    """The pattern of declining, restricted to verbs that were seen."""

    def __init__(self, verbs: set[str]) -> None:
        self.pattern, self.verbs = declining.DECLINE, verbs

    def finditer(self, folded: str) -> Iterator[re.Match[str]]:
        """Yield the declines with these verbs."""
        for match in self.pattern.finditer(folded):
            if match[0].split()[-1] in self.verbs:
                yield match


@contextmanager
def only(seen: Seen) -> Iterator[None]:
    """Label with nothing but what was seen."""
    weights = {
        name: weight if weight < 0 or name in seen.signals else 0
        for name, weight in evidence.WEIGHTS.items()
    }
    bare = [
        one if number in seen.patterns else signal("", "(?!)")
        for number, one in enumerate(declining.DECLINE_BARE)
    ]
    with (
        patch.object(declining, "DECLINE", SomeDeclines(seen.verbs)),
        patch.object(declining, "DECLINE_BARE", tuple(bare)),
        patch.object(disapproving, "MORAL", disapproving.MORAL & seen.words),
        weighed(weights),
    ):
        yield


def listed(seen: Seen, rows: Sequence[Row]) -> dict[str, float]:
    """Return what a list of the deciding words of other answers scores."""
    pairs = []
    for row in rows:
        text = " ".join(row["completion"].lower().split())
        hit = any(phrase in text for phrase in seen.phrases)
        pairs.append((row["label"], "REFUSED" if hit else "ANSWERED"))
    return scores(pairs)


def folds(rows: Sequence[Row]) -> dict[str, float]:
    """Return the scores where each tenth is labelled with weights of the rest."""
    pairs = []
    for fold in range(FOLDS):
        rest = [row for number, row in enumerate(rows) if number % FOLDS != fold]
        with weighed(fitted(rest)):
            pairs += [
                (row["label"], label(row["completion"]).kind.value)
                for row in rows[fold::FOLDS]
            ]
    return scores(pairs)


def main() -> None:
    """Score with and without what was learned from each model, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("answers", type=Path, help="JSONL: completion, label, model")
    with parser.parse_args().answers.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    models = sorted({row["model"] for row in rows})
    result: dict[str, Any] = {"as it is": {"all": score(rows)["f1"]}}
    result["folds"] = {"all": folds(rows)["f1"]}
    for model in models:
        own = [row for row in rows if row["model"] == model]
        others = [row for row in rows if row["model"] != model]
        seen, weights = Seen(others), fitted(others)
        found = {"as it is": score(own)["f1"], "list": listed(seen, own)["f1"]}
        with weighed(weights):
            found["weights"] = score(own)["f1"]
        with only(seen):
            found["rules"] = score(own)["f1"]
        with weighed(weights), only(seen):
            found["both"] = score(own)["f1"]
        for name, f1 in found.items():
            result.setdefault(name, {})[model] = f1
    print(f"{'F1':<12}" + "".join(f"{name:>14}" for name in ("all", *models)))
    for name, found in result.items():
        cells = [found.get(model) for model in ("all", *models)]
        shown = ("-" if cell is None else f"{cell:.3f}" for cell in cells)
        print(f"{name:<12}" + "".join(f"{cell:>14}" for cell in shown))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
