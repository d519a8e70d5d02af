"""Judges: models that label answers by a fixed rubric."""

from typing import Protocol

from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.evaluation.judge_server import ServerJudge
from cna_mlx.evaluation.rubric import JUDGE_LABELS, LONGEST, question
from cna_mlx.labels.label import LabelKind
from cna_mlx.models.context import context_length
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arm_cache import ArmCache
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.sampling import Among
from cna_mlx.util.progress import SILENT, Reporter

_SHORTEST = 250


class Judge(Protocol):
    """A model that labels answers."""

    @property
    def name(self) -> str:
        """Identify the model, for people and for kept judgements."""

    def judge(self, prompt: str | None, text: str) -> LabelKind | None:
        """Return the label of an answer; None if the reply names no label."""


def open_judge(text: str, reporter: Reporter = SILENT) -> Judge:
    """Return a judge.

    Args:
        text: a model as for :func:`cna_mlx.load`, or the address of a server that
            talks like OpenAI's: ``http://localhost:8080/v1?model=NAME``.

    Raises:
        InputError: the address cannot be used.
        ModelError, HubError, OutOfMemoryError: as :func:`cna_mlx.load`.
    """
    if not text.lower().startswith(("http://", "https://")):
        return LocalJudge(Session(text, reporter=reporter))
    judge = ServerJudge(text)
    reporter.note(f"prompts and answers are sent to {judge.address}")
    return judge


class LocalJudge:
    """A model on this machine: its most probable label, whatever else it would say."""

    def __init__(self, session: Session) -> None:
        self._model, self._tokenizer = session.load()
        self.name = f"{session.name} ({fingerprint(self._model)[:12]})"
        self._labels = {
            tuple(self._tokenizer.encode(str(label), add_special_tokens=False)): label
            for label in JUDGE_LABELS
        }
        self._caches: dict[str, ArmCache] = {}  # the rubric is computed once

    def judge(self, prompt: str | None, text: str) -> LabelKind:
        """Return the label of an answer: greedy decoding, constrained to the labels.

        Raises:
            InputError: the model's context is too short for the rubric.
        """
        ids = self._ids(prompt, text)
        left, depth = list(self._labels), 0
        while len(left) > 1:
            nexts = tuple(sorted({label[depth] for label in left}))
            token = self._most_probable([*ids, *left[0][:depth]], nexts)
            left = [label for label in left if label[depth] == token]
            depth += 1
        return self._labels[left[0]]

    def _most_probable(self, ids: list[int], among: tuple[int, ...]) -> int:
        events = generate_arms(
            self._model,
            self._tokenizer,
            [ids],
            [BASELINE],
            max_tokens=1,
            sampling=Among(among),
            caches=self._caches,
        )
        (answer,) = [event for event in events if isinstance(event, Answer)]
        return answer.token_ids[0]

    def _ids(self, prompt: str | None, text: str) -> list[int]:
        """The question's ids, with as much of the texts as the context holds."""
        limit, longest = context_length(self._model), LONGEST
        while longest >= _SHORTEST:
            ids = render_prompt(self._tokenizer, question(prompt, text, longest))
            if limit is None or len(ids) < limit:
                return ids
            longest //= 2
        raise InputError(
            f"{self.name} reads {limit} tokens, too few to judge an answer; choose "
            "another judge"
        )
