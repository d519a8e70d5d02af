"""The arms of a chat, their histories, and what a turn of it is."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import mlx.core as mx

from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.models.context import context_length
from cna_mlx.prompts.chat_template import Message, Rendering, reference_hash, render
from cna_mlx.steering.arm_cache import ArmCache
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import ArmResult, PromptResult
from cna_mlx.steering.events import Answer, Gauged, Token
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.sampling import Greedy, Sampled, Sampling
from cna_mlx.util.progress import Progress, silent

STEERED = "ablated"
# The baseline and three more: what stands side by side on a wide terminal.
MOST_ARMS = 4
View = Literal["both", "baseline", "ablated"]

# Room that is kept for the answer when a long conversation fills the context.
_ANSWER_ROOM = 64


class FindCircuit(Protocol):
    """Finds the circuit of a contrast; of the model's default one if None."""

    def __call__(self, contrast: str | None = None) -> Circuit: ...


@dataclass(frozen=True)
class Turn:
    """One question and what every arm answered.

    Attributes:
        result: the answers with their labels; the baseline first.
        seconds: from the question to the end of the last answer.
        tokens_per_second: all arms together, after the first token.
        memory: held by MLX at the end, in bytes.
        histories_differ: the next question meets different conversations.
        dropped: how many early turns are no longer in the context.
    """

    result: PromptResult
    seconds: float
    tokens_per_second: float
    memory: int
    histories_differ: bool
    dropped: int

    @property
    def tokens(self) -> int:
        """New tokens of all arms."""
        return sum(len(arm.token_ids) for arm in self.result.arms)


@dataclass(frozen=True)
class Asked:
    """The last question as the baseline got it, for commands that look back at it."""

    ids: list[int]
    sampling: Sampling
    histories_differed: bool


@dataclass
class Conversation:
    """Several arms over one model: the baseline, and those with a circuit scaled.

    Attributes:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        steered: the arms beside the baseline, each of one circuit; empty if there is
            no circuit yet.
        multiplier: what the first steered arm is scaled by, or one that comes later.
        is_ablating: whether the steered arms answer too.
        view: which arms are shown.
        hides_text: whether answers are shown by their first words only.
        find_circuit: called when a circuit is wanted that is not there.
        load_circuit: from ``FILE`` or ``FILE@M`` to a circuit and a multiplier.
        check_circuit: raises a CircuitError for a circuit of another model.
        export: draws the conversation into a file.
        progress: told while a command takes its time.
    """

    model: Any
    tokenizer: Any
    steered: list[Arm] = field(default_factory=list)
    multiplier: float = 0.0
    is_ablating: bool = False
    rendering: Rendering = field(default_factory=Rendering)
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 512
    view: View = "both"
    hides_text: bool = False
    find_circuit: FindCircuit | None = None
    load_circuit: Callable[[str], tuple[Circuit, float | None]] | None = None
    check_circuit: Callable[[Circuit], None] | None = None
    export: Callable[["Conversation", Path], None] | None = None
    progress: Progress = silent
    turns: list[Turn] = field(default_factory=list)
    histories: dict[str, list[Message]] = field(default_factory=dict)
    asked: Asked | None = None
    dropped: int = 0
    _caches: dict[str, ArmCache] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steered:
            self.multiplier = self.steered[0].multiplier

    @property
    def arms(self) -> list[Arm]:
        """The arms that answer, the baseline first."""
        return [BASELINE, *(self.steered if self.is_ablating else ())]

    @property
    def circuit(self) -> Circuit | None:
        """The first steered arm's circuit."""
        return circuit_of(self.steered[0]) if self.steered else None

    def steer(self, circuit: Circuit, multiplier: float | None = None) -> None:
        """Make one steered arm of a circuit, in the place of those that there are."""
        if multiplier is not None:
            self.multiplier = multiplier
        self.steered = [Arm.of(circuit, self.multiplier, STEERED)]

    def rescale(self, multiplier: float, arm: int | None = None) -> None:
        """Give a steered arm another multiplier; its history stays.

        Args:
            multiplier: the new one.
            arm: which, from 1; needed where there are several.

        Raises:
            InputError: there is no such arm, or another is just so already.
        """
        several = len(self.steered)
        if not several:
            self.multiplier = multiplier
            return
        if arm is None and several == 1:
            arm = 1
        if arm is None or not 1 <= arm <= several:
            raise InputError(
                f"/multiplier X ARM: which of the {several} steered arms, from 1"
            )
        number = arm - 1
        before = self.steered[number]
        after = Arm.of(circuit_of(before), multiplier, _relabelled(before, multiplier))
        others = [*self.steered[:number], *self.steered[number + 1 :]]
        if any(other.label == after.label for other in others):
            raise InputError(f"there is an arm {after.label} already")
        self.steered[number] = after
        if before.label in self.histories:
            self.histories[after.label] = self.histories.pop(before.label)
        if number == 0:
            self.multiplier = multiplier

    @property
    def gauge(self) -> Circuit | None:
        """The circuit that each message is gauged along, if it can be one."""
        return self.circuit if self.circuit and can_gauge(self.circuit) else None

    @property
    def is_calibrated(self) -> bool:
        """Whether the gauge reads what it was made on: one question, its rendering."""
        own = self.circuit.provenance.rendering if self.circuit else None
        if own is None or len(self.turns) > 1:
            return False
        expected = reference_hash(self.tokenizer, self.rendering)
        return own.reference_sha256 == expected

    @property
    def histories_differ(self) -> bool:
        """Whether the arms have answered differently so far."""
        histories = [self.histories.get(arm.label, []) for arm in self.arms]
        return any(history != histories[0] for history in histories)

    def clear(self) -> None:
        """Forget what was said; the arms and the settings stay."""
        self.turns.clear()
        self.asked = None
        self.dropped = 0
        self.histories.clear()
        self._caches.clear()

    def align(self) -> None:
        """Let every arm go on from what the baseline said."""
        baseline = self.histories.get(BASELINE.label, [])
        for arm in self.arms[1:]:
            self.histories[arm.label] = list(baseline)

    def turn(
        self, text: str, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Gauged | Token | Turn]:
        """Send a message to every arm.

        Args:
            text: the user's message.
            stop: asked before each token; True ends the answers, which are kept.

        Yields:
            The message's gauge where there is a circuit, each token as it comes, and
            at last the turn.

        Raises:
            InputError: the message alone does not fit into the context.
        """
        clock = _Clock()
        arms = self.arms
        self._catch_up(arms)
        differed, sampling = self.histories_differ, self._sampling()
        messages, dropped = self._messages(arms, text)
        self.dropped += dropped
        prompts = [self._ids(messages[arm.label]) for arm in arms]
        # what remains of an answer that is stopped before it begins
        nothing = Answer(0, 0, "", (), "interrupted")
        answers = [ArmResult.of(arm, nothing) for arm in arms]
        gauged: float | None = None
        for event in generate_arms(
            self.model,
            self.tokenizer,
            [prompts],
            arms,
            max_tokens=self.max_tokens,
            sampling=sampling,
            caches=self._caches,
            gauge=self.gauge,
            stop=stop,
        ):
            if isinstance(event, Answer):
                answers[event.arm] = ArmResult.of(arms[event.arm], event)
                continue
            if isinstance(event, Gauged):
                gauged = event.value
            else:
                clock.token()
            yield event
        result = PromptResult(text, tuple(answers), gauged)
        self._remember(result, messages)
        turn = clock.turn(result, self.histories_differ, self.dropped)
        self.turns.append(turn)
        self.asked = Asked(prompts[0], sampling, differed)
        yield turn

    def _catch_up(self, arms: list[Arm]) -> None:
        # An arm that was off while the baseline went on continues from its history.
        baseline = self.histories.setdefault(BASELINE.label, [])
        asked = baseline[::2]
        for arm in arms:
            if self.histories.setdefault(arm.label, [])[::2] != asked:
                self.histories[arm.label] = list(baseline)

    def _remember(self, result: PromptResult, messages: dict[str, Any]) -> None:
        if not any(arm.token_ids for arm in result.arms):
            return  # stopped before a word
        for arm in result.arms:
            reply = {"role": "assistant", "content": arm.text}
            self.histories[arm.arm.label] = [*messages[arm.arm.label], reply]

    def _messages(
        self, arms: list[Arm], text: str
    ) -> tuple[dict[str, list[Message]], int]:
        """Each arm's conversation with the new message, cut to what fits."""
        question = {"role": "user", "content": text}
        limit = context_length(self.model)
        dropped = 0
        while True:
            messages = {
                arm.label: [*self.histories[arm.label][2 * dropped :], question]
                for arm in arms
            }
            if limit is None:
                return messages, dropped
            longest = max(len(self._ids(one)) for one in messages.values())
            room = min(self.max_tokens, _ANSWER_ROOM)
            if longest + room <= limit:
                return messages, dropped
            if all(len(one) == 1 for one in messages.values()):
                raise InputError(
                    f"the message has {longest} tokens; with room for an answer the "
                    f"model's context holds {limit - room}: shorten it"
                )
            dropped += 1

    def _ids(self, messages: list[Message]) -> list[int]:
        return render(self.tokenizer, messages, self.rendering)

    @property
    def context_used(self) -> int:
        """Tokens of the longest history, in the ids of its rendering."""
        histories = [one for one in self.histories.values() if one]
        return max((len(self._ids(history)) for history in histories), default=0)

    def set_rendering(self, **changes: Any) -> None:
        """Change how messages become token ids.

        Raises:
            InputError: a value that a rendering cannot have.
        """
        self.rendering = replace(self.rendering, **changes)

    def _sampling(self) -> Sampling:
        if self.temperature <= 0:
            return Greedy()
        # Another turn draws other noise; the same chat again draws the same.
        return Sampled(self.temperature, seed=self.seed + len(self.turns))


def circuit_of(arm: Arm) -> Circuit:
    """The circuit of a steered arm of a chat; such an arm has just one."""
    circuit = arm.steering[0][0]
    assert isinstance(circuit, Circuit)
    return circuit


def _relabelled(arm: Arm, multiplier: float) -> str:
    own = f"m={arm.multiplier:.15g}"
    if not arm.label.endswith(own):
        return arm.label
    return f"{arm.label.removesuffix(own)}m={multiplier:.15g}"


class _Clock:
    """How long a turn took, and how fast its tokens came after the first."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._first_token: float | None = None

    def token(self) -> None:
        if self._first_token is None:
            self._first_token = time.perf_counter()

    def turn(self, result: PromptResult, histories_differ: bool, dropped: int) -> Turn:
        ended = time.perf_counter()
        decoding = ended - (self._first_token or self._started)
        tokens = sum(len(arm.token_ids) for arm in result.arms)
        return Turn(
            result,
            ended - self._started,
            tokens / max(decoding, 1e-6),
            int(mx.get_active_memory()),
            histories_differ,
            dropped,
        )
