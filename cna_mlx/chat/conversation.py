"""The arms of a conversation, their histories and turns."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import mlx.core as mx

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.gauge import is_calibrated
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.models.context import context_length
from cna_mlx.prompts.chat_template import Message, Rendering, render
from cna_mlx.search.search import Shown
from cna_mlx.steering.arm_cache import ArmCache
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import ArmResult, PromptResult, label_answers
from cna_mlx.steering.events import Answer, Gauged, Token
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.sampling import Greedy, Sampled, Sampling
from cna_mlx.strength import Strength, arm_label
from cna_mlx.util.progress import never

# The baseline and three more fit side by side on a wide terminal.
MOST_ARMS = 4
View = Literal["both", "baseline", "ablated"]

# Tokens kept for the answer when a long conversation fills the context, and the share
# that is then made free: the next turns keep their beginning, and so their caches.
_ANSWER_ROOM = 64
_FREED = 1 / 4


@dataclass(frozen=True)
class Turn:
    """One question and what every arm answered.

    Attributes:
        result: the labelled answers; the baseline first.
        seconds: from the first token to the end of the last answer.
        memory: bytes held by MLX at the end.
        histories_differ: whether the arms meet the next question with different
            histories.
        dropped: how many early turns no longer fit the context.
    """

    result: PromptResult
    seconds: float
    memory: int
    histories_differ: bool
    dropped: int

    @property
    def is_interrupted(self) -> bool:
        """Whether an answer was stopped."""
        return any(arm.finish == "interrupted" for arm in self.result.arms)

    @property
    def tokens(self) -> int:
        """New tokens of all arms."""
        return sum(len(arm.token_ids) for arm in self.result.arms)


@dataclass(frozen=True)
class Asked:
    """The last question as the baseline saw it, for commands that look back at it."""

    messages: list[Message]
    rendering: Rendering
    ids: list[int]
    sampling: Sampling
    histories_differed: bool


@dataclass
class Conversation:
    """Several arms over one model: the baseline, and those with a circuit scaled.

    Attributes:
        session: the model, and where its circuits come from.
        steered: the steered arms, each with one circuit; empty without a circuit.
        discovery: how the default circuit is found.
        multiplier: or pin, of the first steered arm, now or once there is one.
        is_ablating: whether the steered arms answer too.
        view: which arms are shown.
        hides_text: whether only the first words of answers are shown.
        rendering: how messages become token ids; at first the session's.
        export: draws the conversation into a file.
        confirm: asks the user a question with yes or no, if somebody can answer.
        written: files that this chat wrote, which it may replace.
        undone: turns that were taken back, so that a sampled answer is another one.
        searched: called with the standings of a search; see
            :func:`cna_mlx.search.search.search_session`.
    """

    session: Session
    steered: list[Arm] = field(default_factory=list)
    discovery: DiscoveryOptions = field(default_factory=DiscoveryOptions)
    multiplier: Strength = 0.0
    is_ablating: bool = False
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 512
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    view: View = "both"
    hides_text: bool = False
    export: Callable[["Conversation", Path], None] | None = None
    searched: Shown = lambda standings: None
    confirm: Callable[[str], bool] = lambda question: False
    written: set[Path] = field(default_factory=set)
    turns: list[Turn] = field(default_factory=list)
    histories: dict[str, list[Message]] = field(default_factory=dict)
    asked: Asked | None = None
    dropped: int = 0
    undone: int = 0
    _caches: dict[str, ArmCache] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rendering = self.session.rendering
        if self.steered:
            self.multiplier = self.steered[0].strength

    @property
    def arms(self) -> list[Arm]:
        """The arms that answer, the baseline first."""
        return [BASELINE, *(self.steered if self.is_ablating else ())]

    @property
    def circuit(self) -> Circuit | None:
        """The first steered arm's circuit."""
        return circuit_of(self.steered[0]) if self.steered else None

    def find_circuit(self, contrast: str | None = None) -> Circuit:
        """The circuit of a built-in contrast, or the default one."""
        wanted = self.discovery
        if contrast is not None:
            wanted = replace(wanted, contrast=contrast, positive=None, negative=None)
        return replace(self.session, rendering=self.rendering).default_circuit(wanted)

    def steer(self, circuit: Circuit, multiplier: Strength | None = None) -> None:
        """Replace the steered arms by one of this circuit, and let it answer."""
        if multiplier is None:
            multiplier = self.multiplier
        self.steered = [Arm.of(circuit, multiplier)]
        self.multiplier = multiplier
        self.is_ablating = True

    def rescale(self, multiplier: Strength, arm: int | None = None) -> None:
        """Give a steered arm another multiplier, and keep its history.

        Arms count from 1. If there are several, you must name one.
        """
        if not self.steered:
            self.multiplier = multiplier
            return
        count = len(self.steered)
        number = 1 if arm is None and count == 1 else arm or 0
        if not 1 <= number <= count:
            raise InputError(
                f"/multiplier X ARM: which of the {count} steered arms, from 1"
            )
        before = self.steered[number - 1]
        after = Arm.of(circuit_of(before), multiplier, _relabelled(before, multiplier))
        if any(one.label == after.label for one in self.steered if one is not before):
            raise InputError(f"there is an arm {after.label} already")
        self.steered[number - 1] = after
        if before.label in self.histories:
            self.histories[after.label] = self.histories.pop(before.label)
        self.multiplier = self.steered[0].strength

    @property
    def gauge(self) -> Circuit | None:
        """The first steered arm's circuit, if it can gauge messages."""
        return self.circuit if self.circuit and can_gauge(self.circuit) else None

    @property
    def is_calibrated(self) -> bool:
        """Whether the gauge's accuracy is known: for first questions, as rendered."""
        if not self.gauge or len(self.turns) > 1:
            return False
        model, tokenizer = self.session.model, self.session.tokenizer
        return is_calibrated(model, tokenizer, self.gauge, self.rendering)

    @property
    def histories_differ(self) -> bool:
        """Whether the arms have answered differently so far."""
        histories = [self.histories.get(arm.label, []) for arm in self.arms]
        return any(history != histories[0] for history in histories)

    @property
    def context_used(self) -> int:
        """Tokens of the longest history."""
        histories = [one for one in self.histories.values() if one]
        return max((len(self._ids(history)) for history in histories), default=0)

    def clear(self) -> None:
        """Forget all turns; keep the arms and the settings."""
        self.turns.clear()
        self.asked = None
        self.dropped = self.undone = 0
        self.histories.clear()
        self._caches.clear()

    def undo(self) -> str:
        """Forget the last turn, in every arm; return its question.

        Raises:
            InputError: nothing was asked yet.
        """
        if not self.turns:
            raise InputError("nothing was asked yet: ask something first")
        last = self.turns.pop().result
        self.asked = None
        self.undone += 1
        if any(arm.token_ids for arm in last.arms):  # else it was not remembered
            length = len(self.histories[BASELINE.label])
            for label, history in self.histories.items():
                if len(history) == length:  # an arm that was off is shorter
                    self.histories[label] = history[:-2]
        return last.prompt

    def align(self) -> None:
        """Give every arm the baseline's history."""
        baseline = self.histories.get(BASELINE.label, [])
        for arm in self.arms[1:]:
            self.histories[arm.label] = list(baseline)

    def turn(
        self, text: str, stop: Callable[[], bool] = never
    ) -> Iterator[Gauged | Token | Turn]:
        """Send a message to every arm.

        Yields:
            The message's gauge if there is a circuit, each token as it comes, and
            finally the turn; a stopped turn keeps what was answered.
        """
        arms, started = self.arms, None
        self._catch_up(arms)
        differed, sampling = self.histories_differ, self._sampling()
        messages, prompts, dropped = self._fit(arms, text)
        self.dropped += dropped
        # the result if the turn is stopped before it begins
        nothing = Answer(0, 0, "", (), "interrupted")
        result = PromptResult(text, tuple(ArmResult.of(arm, nothing) for arm in arms))
        events = generate_arms(
            self.session.model,
            self.session.tokenizer,
            [prompts],
            arms,
            max_tokens=self.max_tokens,
            sampling=sampling,
            caches=self._caches,
            gauge=self.gauge,
            stop=stop,
        )
        for event in label_answers([text], arms, events):
            if isinstance(event, PromptResult):
                result = event
                continue
            if isinstance(event, Token):
                started = started or time.perf_counter()
            yield event
        seconds = time.perf_counter() - started if started else 0.0
        self._remember(result, messages)
        memory, differ = int(mx.get_active_memory()), self.histories_differ
        self.turns.append(Turn(result, seconds, memory, differ, self.dropped))
        self.asked = Asked(messages[0], self.rendering, prompts[0], sampling, differed)
        yield self.turns[-1]

    def _catch_up(self, arms: list[Arm]) -> None:
        # an arm that missed turns of the baseline continues from its history
        baseline = self.histories.setdefault(BASELINE.label, [])
        asked = baseline[::2]
        for arm in arms:
            if self.histories.setdefault(arm.label, [])[::2] != asked:
                self.histories[arm.label] = list(baseline)

    def _remember(self, result: PromptResult, messages: list[list[Message]]) -> None:
        if not any(arm.token_ids for arm in result.arms):
            return  # stopped before a word
        for arm, asked in zip(result.arms, messages, strict=True):
            reply = {"role": "assistant", "content": arm.text}
            self.histories[arm.arm.label] = [*asked, reply]

    def _fit(
        self, arms: list[Arm], text: str
    ) -> tuple[list[list[Message]], list[list[int]], int]:
        """Each arm's messages with the new one, and their ids; early turns dropped."""
        question = {"role": "user", "content": text}
        limit = context_length(self.session.model) or math.inf
        room = wanted = min(self.max_tokens, _ANSWER_ROOM)
        dropped = 0
        while True:
            histories = [self.histories[arm.label][2 * dropped :] for arm in arms]
            messages = [[*history, question] for history in histories]
            prompts = [self._ids(one) for one in messages]
            longest = max(map(len, prompts))
            if longest + (wanted if any(histories) else room) <= limit:
                return messages, prompts, dropped
            wanted = max(room, int(limit * _FREED))
            if not any(histories):
                raise InputError(
                    f"the message has {longest} tokens; with room for an answer the "
                    f"model's context holds {limit - room}: shorten it"
                )
            dropped += 1

    def _ids(self, messages: list[Message]) -> list[int]:
        return render(self.session.tokenizer, messages, self.rendering)

    def _sampling(self) -> Sampling:
        if self.temperature <= 0:
            return Greedy()
        # new noise for every answer, the same when the chat is repeated
        return Sampled(
            self.temperature,
            self.top_p,
            self.seed + len(self.turns) + self.undone,
            self.top_k,
            self.min_p,
        )


def circuit_of(arm: Arm) -> Circuit:
    """Return the circuit of a steered arm; in a chat it has exactly one."""
    circuit = arm.steering[0][0]
    assert isinstance(circuit, Circuit)
    return circuit


def _relabelled(arm: Arm, multiplier: Strength) -> str:
    before = arm_label(arm.strength)
    if not arm.label.endswith(before):
        return arm.label
    return f"{arm.label.removesuffix(before)}{arm_label(multiplier)}"
