"""Choose the columns of prompts and answers, read them, and say which were read."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cna_mlx.errors import InputError
from cna_mlx.prompts.tables import Table, find_name, listed
from cna_mlx.util.progress import Reporter
from cna_mlx.util.reading import parse_json

#: Columns that can hold the prompt, best first; case does not matter.
PROMPT_COLUMNS = (
    "prompt",
    "goal",
    "instruction",
    "behavior",
    "forbidden_prompt",
    "question",
    "prompts_final",
    "test_case",
    "input",
    "user",
    "text",
    "messages",
    "conversations",
    "arguments",  # lm-eval
)
#: Columns that can hold the answer, best first.
ANSWER_COLUMNS = (
    "response",
    "completion",
    "generation",
    "output",
    "outputs",
    "assistant",
    "answer",
    "resps",  # lm-eval
    "filtered_resps",
    "messages",
    "conversations",
    "text",
)
KNOWN = (*PROMPT_COLUMNS, *ANSWER_COLUMNS)

#: Columns that are part of the prompt: (column, its part, the text between, is first).
_PARTS = (
    ("behavior", "contextstring", "\n\n---\n\n", True),  # as HarmBench joins them
    ("behavior", "context", "\n\n---\n\n", True),
    ("instruction", "input", "\n\n", False),
    ("instruction", "context", "\n\n", False),
    ("question", "context", "\n\n", True),
)
_MAY_BELONG = ("context", "contextstring", "context_string", "system", "system_prompt")
# Where a value that is not text keeps its text: Inspect's outputs, chat messages, parts
# of a message, lm-eval's arguments.
_INNER = ("completion", "choices", "message", "content", "text", "value")
_ARGUMENTS = ("gen_args_0", "arg_0")
# What a tool keeps next to its own columns is not another choice.
_WRAPPED = ("messages", "conversations", "arguments", "resps", "filtered_resps")
_ROLES = {"user": ("user", "human"), "assistant": ("assistant", "gpt")}
_TEMPLATE = re.compile(
    r"<\|(?:im_start|start_header_id|user|begin_of_text)|\[INST\]|<start_of_turn>"
)

Role = Literal["user", "assistant"]


@dataclass
class ColumnReader:
    """Reads one column of each record, and remembers what it read.

    Attributes:
        name: of the file, for messages.
        role: ``user`` for prompts, ``assistant`` for answers.
        column: the column; None to choose it by ``known``.
        known: names to look for, best first.
        head: the table of the records, if they are one's rows.
    """

    name: str
    role: Role
    column: str | None = None
    known: Sequence[str] = ()
    head: Table | None = None
    _read: Counter[str] = field(default_factory=Counter)
    _joined: Counter[str] = field(default_factory=Counter)
    _left: Counter[str] = field(default_factory=Counter)
    _others: dict[str, None] = field(default_factory=dict)
    _layouts: "dict[tuple[str, ...], _Layout]" = field(default_factory=dict)

    def find(self, record: dict[str, Any]) -> str | None:
        """The column of a record; None if it has none of those that are known.

        Raises:
            InputError: two columns of a table have its name.
        """
        return self._layout(record).column

    def read(self, record: dict[str, Any], column: str) -> list[Any]:
        """The texts of a column; what is not text is returned as it is."""
        self._read[column] += 1
        found = texts(record[column], self.role)
        if self.role == "assistant":
            return found
        self._count_turns(record[column])
        is_text = len(found) == 1 and isinstance(found[0], str)
        return [self._whole(record, found[0])] if is_text else found

    def lacks(self, record: object) -> bool:
        """Whether a record has null in the column; it is counted."""
        column = self.find(record) if isinstance(record, dict) else None
        is_null = isinstance(record, dict) and bool(column) and record[column] is None
        if is_null:
            self._left["records without text, left out"] += 1
        return is_null

    def check_template(self, text: str) -> None:
        """Count a prompt that a chat template was applied to already."""
        if _TEMPLATE.search(text):
            self._left["prompts with a chat template's markers in them"] += 1

    def report(self, reporter: Reporter) -> None:
        """Say what was read where there was a choice, and what was not read."""
        others = [name for name in self._others if name not in self._read]
        usual = {"prompt"} if self.role == "user" else {"text"}
        is_plain = {name.casefold() for name in self._read} <= usual
        if self._read and (self._joined or others or not (self.column or is_plain)):
            reporter.note(self._said(others))
        for what, count in self._left.items():
            reporter.warn(f"{self.name}: {what}: {count:,}")

    def _said(self, others: Sequence[str]) -> str:
        what = "prompts" if self.role == "user" else "answers"
        said = f"{self.name}: {what} from {listed(list(self._read))}"
        for part, count in self._joined.items():
            said += f", joined with {part!r} in {count:,} of {self._read.total():,}"
        if others:
            said += f"; there is also {listed(others)}: choose with FILE:COLUMN"
        return said

    def _whole(self, record: dict[str, Any], text: str) -> str:
        """The prompt with the other columns that belong to it."""
        layout = self._layout(record)
        for name, between, is_first in layout.parts:
            if _filled(record[name]):
                self._joined[name] += 1
                other = record[name].strip()
                pair = (other, text) if is_first else (text, other)
                text = between.join(pair)
        for name in layout.unread:
            if _filled(record[name]):
                self._left[f"prompts with a {name!r}, which is not read"] += 1
        return text

    def _layout(self, record: dict[str, Any]) -> "_Layout":
        """What the names of a record's columns say, found once for all like it."""
        names = tuple(record)
        found = self._layouts.get(names)
        if found is None:
            wanted = self.known if self.column is None else (self.column,)
            found = self._layouts[names] = _Layout.of(names, wanted)
            if self.head is not None and found.column is not None:
                self.head.find(found.column)
            self._others.update(dict.fromkeys(found.others))
        return found

    def _count_turns(self, value: Any) -> None:
        turns = _messages(value) or []
        roles = [str(turn.get("role", turn.get("from"))) for turn in turns]
        if sum(role in _ROLES["user"] for role in roles) > 1:
            self._left["conversations with more turns, which are not read"] += 1
        if "system" in roles:
            self._left["system messages, which are not read (use --system)"] += 1


@dataclass(frozen=True)
class _Layout:
    """The columns of records with the same names.

    Attributes:
        column: the one to read.
        others: those that could be read too.
        parts: columns that belong to the prompt: (name, text between, is first).
        unread: columns that may belong to it.
    """

    column: str | None
    others: tuple[str, ...] = ()
    parts: tuple[tuple[str, str, bool], ...] = ()
    unread: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Sequence[str], wanted: Sequence[str]) -> "_Layout":
        names = [name for name in names if name]
        found = [one for want in wanted if (one := find_name(names, want)) is not None]
        if not found:
            return cls(None)
        main = found[0].casefold()
        parts = tuple(
            (part, between, is_first)
            for column, name, between, is_first in _PARTS
            if column == main and (part := find_name(names, name)) is not None
        )
        taken = {main, *(name.casefold() for name, *_ in parts)}
        others = [one for one in found if one.casefold() not in (*taken, *_WRAPPED)]
        unread = [one for one in names if one.casefold() in _MAY_BELONG]
        unread = [one for one in unread if one.casefold() not in taken]
        return cls(found[0], tuple(others), parts, tuple(unread))


def missing_column(
    names: Sequence[str], column: str | None, usual: str, where: str
) -> InputError:
    """The error of a record that has no such column."""
    wanted = repr(column) if column else f"{usual} or another known one"
    return InputError(
        f"{where}: no column {wanted}; choose one of those there are (FILE:COLUMN): "
        f"{listed(names)}"
    )


def texts(value: Any, role: Role, depth: int = 8) -> list[Any]:
    """The texts in a value: a string, chat messages, or what a tool wraps around it.

    What is none of these, or is more than ``depth`` lists and objects down, is returned
    as it is, to be refused by who wanted text.
    """
    if depth == 0:
        return [value]
    if (turns := _messages(value)) is not None:
        said = [
            turn.get("content", turn.get("value"))
            for turn in turns
            if turn.get("role", turn.get("from")) in _ROLES[role]
        ]
        return texts(said[0], role, depth - 1) if said else [None]
    if isinstance(value, list):
        parts = [part for part in value if not _is_thought(part)]
        if parts and all(_is_part(part) for part in parts):
            return ["".join(part["text"] for part in parts)]
        found = [text for part in parts for text in texts(part, role, depth - 1)]
        return found or [value]
    if isinstance(value, dict):
        keys = _INNER if role == "assistant" else (*_ARGUMENTS, *_INNER)
        inner = next((key for key in keys if value.get(key) is not None), None)
        return [value] if inner is None else texts(value[inner], role, depth - 1)
    return [value]


def _messages(value: Any) -> list[dict[str, Any]] | None:
    """The messages of a conversation, also as JSON in a string; None for others."""
    if isinstance(value, str) and value.lstrip().startswith('[{"role"'):
        try:
            value = parse_json(value)
        except ValueError:
            return None
    is_one = (
        isinstance(value, list)
        and value
        and all(
            isinstance(turn, dict) and ("role" in turn or "from" in turn)
            for turn in value
        )
    )
    return value if is_one else None


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "reasoning"


def _filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
