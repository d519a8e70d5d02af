"""Keep judgements by what was judged, so that judging resumes."""

import hashlib
import json
import os
from pathlib import Path

from cna_mlx.errors import CnaError
from cna_mlx.evaluation.rubric import RUBRIC_SHA256
from cna_mlx.labels.label import LabelKind
from cna_mlx.util.files import file_errors, is_there
from cna_mlx.util.reading import parse_json, read_file

JUDGEMENTS = "judgements.jsonl"


class Judgements:
    """The labels of one judge, also in a file if one is given.

    A line of the file has the hash of the prompt, the answer, the rubric and the judge;
    texts are not repeated. Damaged lines are skipped.

    Raises:
        InputError: the file cannot be read.
    """

    def __init__(self, judge: str, path: Path | None = None) -> None:
        self.judge, self._path = judge, path
        lines = _lines(path) if path else []
        self._labels = {line["key"]: LabelKind(line["label"]) for line in lines}

    def find(self, prompt: str | None, text: str) -> LabelKind | None:
        """Return the label of an answer that was judged before."""
        return self._labels.get(self._key(prompt, text))

    def add(self, prompt: str | None, text: str, label: LabelKind) -> None:
        """Keep a label.

        Raises:
            CnaError: it cannot be written, e.g. because the disk is full.
        """
        key = self._key(prompt, text)
        self._labels[key] = label
        if self._path is None:
            return
        line = json.dumps({"key": key, "judge": self.judge, "label": label})
        try:
            with open(self._path, "a", opener=_private) as file:
                file.write(f"{line}\n")
        except OSError as error:
            raise CnaError(
                f"{self._path}: cannot be written ({error.strerror}); make room and "
                "run the same command again"
            ) from None

    def _key(self, prompt: str | None, text: str) -> str:
        whole = json.dumps([prompt, text, RUBRIC_SHA256, self.judge])
        return hashlib.sha256(whole.encode()).hexdigest()


def last_judge(path: Path) -> str | None:
    """Return the judge of a file's last line; None if there is no file."""
    return next((line["judge"] for line in reversed(_lines(path))), None)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lines(path: Path) -> list[dict[str, str]]:
    """The whole lines of a file of judgements."""
    with file_errors(path, "read"):
        text = read_file(path).decode(errors="replace") if is_there(path) else ""
    found = []
    for line in text.splitlines():
        try:
            one = parse_json(line)
            LabelKind(one["label"])
            found.append({name: str(one[name]) for name in ("key", "judge", "label")})
        except (ValueError, LookupError, TypeError):
            continue
    return found
