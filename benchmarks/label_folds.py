"""How well the labels agree with people on answers that they were not fitted to.

The rules were written with the shared answers at hand, so their score there is fitted.
This script takes two things back. `rules`: score each model's answers with only what
occurs in refusals of the *other* model: its verbs of declining, patterns, signals and
moral words. `weights`: refit the weights, by logistic regression rounded to integers,
on the other model's answers; `both` combines the two, and `folds` refits over all
answers, in ten folds. `list` is the baseline: a plain list of the phrases that decided
the other model's refusals. The last line is one JSON object.

    python benchmarks/label_folds.py labelled.jsonl
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from label_scores import REFUSING, Row, read, score, scores
from sklearn.linear_model import LogisticRegression

from cna_mlx.labels import label as labels
from cna_mlx.labels import patterns, scoring, tone
from cna_mlx.labels.label import label
from cna_mlx.labels.normalization import Folded, words_of
from cna_mlx.labels.pattern_index import cued

FOLDS = 10
_COSTS = {False: 1.5, True: 1.0}  # a false alarm costs more than a miss
weighed = partial(patch.dict, scoring.WEIGHTS)  # label with other weights


def counts(text: str) -> dict[str, int]:
    """All signals of an opening with their counts."""
    raw = text.strip()
    folded = Folded(raw).text
    cues = scoring.CueSet(folded, labels._first_sentence(folded))
    found, _ = scoring.find_signals(folded, cues)
    scoring.count_against(found, folded, raw, cues)
    return found


def declines(text: str) -> bool:
    """Whether an answer declines in words, whatever the weights are."""
    with weighed(dict.fromkeys(scoring.WEIGHTS, -1)):
        return label(text).kind in REFUSING


def fitted(rows: Sequence[Row]) -> dict[str, int]:
    """Weights fitted to the answers that do not decline in words."""
    rows = [row for row in rows if not declines(row["text"])]
    names = list(scoring.WEIGHTS)
    found = [counts(row["text"]) for row in rows]
    table = np.array([[one.get(name, 0) for name in names] for one in found], float)
    truth = np.array([row["label"] in REFUSING for row in rows])
    fit = LogisticRegression(C=10, class_weight=_COSTS, max_iter=5000)
    fit.fit(table, truth)
    unit = -fit.intercept_[0] / (scoring.THRESHOLD - 0.5)
    whole = np.rint(fit.coef_[0] / unit).astype(int)
    return dict(zip(names, whole.tolist(), strict=True))


class Seen:
    """What the refusals among some answers contain, by kind of rule."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.verbs: set[str] = set()
        self.phrases: set[str] = set()
        self.patterns: set[int] = set()
        self.signals: set[str] = set()
        self.words: set[str] = set()
        for row in rows:
            if row["label"] in REFUSING:
                self._see(row["text"])

    def _see(self, text: str) -> None:
        folded = Folded(text.strip()).text
        declined = patterns.DECLINE.finditer(folded)
        self.verbs |= {match[0].split()[-1] for match in declined}
        self.patterns |= {
            number
            for number, one in enumerate(patterns.DECLINE_BARE)
            if one.search(folded, scoring.WINDOW)
        }
        self.signals |= counts(text).keys()
        self.words |= set(words_of(folded[: scoring.WINDOW]))
        if span := label(text).span:
            self.phrases.add(" ".join(text[slice(*span)].lower().split()))

    def kind(self, word: str, of: Callable[[str], int] = tone._kind) -> int:
        """The list of a word in `tone`, if the word was seen."""
        return of(word) if word in self.words else min(0, of(word))


class SomeDeclines:
    """The pattern of declining, restricted to verbs that were seen."""

    def __init__(self, verbs: set[str]) -> None:
        self.pattern, self.verbs = patterns.DECLINE, verbs

    def finditer(self, folded: str) -> Iterator[re.Match[str]]:
        """Yield the declines with these verbs."""
        found = self.pattern.finditer(folded)
        return (match for match in found if match[0].split()[-1] in self.verbs)


@contextmanager
def only(seen: Seen) -> Iterator[None]:
    """Label with nothing but what was seen."""
    weights = {
        name: weight if weight < 0 or name in seen.signals else 0
        for name, weight in scoring.WEIGHTS.items()
    }
    bare = tuple(
        one if number in seen.patterns else cued("", "(?!)")
        for number, one in enumerate(patterns.DECLINE_BARE)
    )
    declines = {"DECLINE": SomeDeclines(seen.verbs), "DECLINE_BARE": bare}
    with (
        patch.multiple(patterns, **declines),
        patch.object(tone, "_kind", seen.kind),
        weighed(weights),
    ):
        yield


def listed(seen: Seen, rows: Sequence[Row]) -> dict[str, float]:
    """The scores of a list of the phrases that decided other refusals."""
    texts = [" ".join(row["text"].lower().split()) for row in rows]
    hits = [any(phrase in text for phrase in seen.phrases) for text in texts]
    ours = ["REFUSED" if hit else "ANSWERED" for hit in hits]
    return scores([row["label"] for row in rows], ours)


def folds(rows: Sequence[Row]) -> dict[str, float]:
    """The scores where each tenth is labelled with weights of the rest."""
    ours = [""] * len(rows)
    for fold in range(FOLDS):
        rest = [row for number, row in enumerate(rows) if number % FOLDS != fold]
        with weighed(fitted(rest)):
            ours[fold::FOLDS] = [label(row["text"]).kind for row in rows[fold::FOLDS]]
    return scores([row["label"] for row in rows], ours)


def transferred(own: Sequence[Row], others: Sequence[Row]) -> dict[str, float]:
    """F1 on some answers with what was taken from others only."""
    seen, weights = Seen(others), fitted(others)
    found = {"as it is": score(own), "list": listed(seen, own)}
    with weighed(weights):
        found["weights"] = score(own)
    with only(seen):
        found["rules"] = score(own)
    with weighed(weights), only(seen):
        found["both"] = score(own)
    return {name: one["f1"] for name, one in found.items()}


def main() -> None:
    """Score with and without what was learned from each model, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("answers", type=Path, help="JSONL: completion, label, model")
    rows = read(parser.parse_args().answers)
    models = sorted({row["model"] for row in rows})
    result = {"as it is": {"all": score(rows)["f1"]}}
    result["folds"] = {"all": folds(rows)["f1"]}
    for model in models:
        own, others = (
            [row for row in rows if (row["model"] == model) is same]
            for same in (True, False)
        )
        for name, f1 in transferred(own, others).items():
            result.setdefault(name, {})[model] = f1
    print(f"{'F1':<12}" + "".join(f"{name:>14}" for name in ("all", *models)))
    for name, found in result.items():
        cells = (
            f"{found[one]:.3f}" if one in found else "-" for one in ("all", *models)
        )
        print(f"{name:<12}" + "".join(f"{cell:>14}" for cell in cells))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
