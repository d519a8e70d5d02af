"""What a request's body asks of the engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import randbits
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.models.context import check_lengths, context_length
from cna_mlx.serve.arms import ServedArms
from cna_mlx.serve.schema import ChatRequest, CompletionRequest, Generation, Steering
from cna_mlx.serve.work import Ask, Event, ScorePrompt, Work
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.decoding import begins_thought
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.steering.sampling import Greedy, Sampled, Sampling

# Temperatures below it overflow, and choose the most likely token.
_COLD = 1e-5

Deliver = Callable[[Event], None]


@dataclass(frozen=True)
class Choices:
    """The answers that a request wants.

    Attributes:
        arms, prompts, max_tokens, gauges: one for each answer: its arm, the token ids
            that it follows, its greatest length, and the circuit that its gauge is
            read along.
        top: how many likely tokens to give; None for no log-probabilities.
        echoes: whether the answers begin with the prompts, whose tokens are scored.
        opens_thought: whether each prompt ends with an opening think tag.
    """

    body: Generation
    arms: list[Arm]
    prompts: list[list[int]]
    max_tokens: list[int]
    gauges: list[Circuit | None]
    top: int | None
    echoes: bool
    opens_thought: list[bool]

    def works(self, deliver: Callable[[int], Deliver]) -> list[Work]:
        """The engine's work for each answer."""
        if self.echoes:
            return [self._score(deliver(place), place) for place in self._places()]
        return [self._ask(deliver(place), place) for place in self._places()]

    def _places(self) -> range:
        return range(len(self.prompts))

    def _score(self, deliver: Deliver, place: int) -> ScorePrompt:
        follows, top = self.max_tokens[place] > 0, self.top or 0
        prompt, arm = self.prompts[place], self.arms[place]
        return ScorePrompt(deliver, prompt, arm, top, follows, self._sampling(place))

    def _ask(self, deliver: Deliver, place: int) -> Ask:
        return Ask(
            deliver,
            self.prompts[place],
            self.arms[place],
            self.max_tokens[place],
            self._sampling(place),
            self.top,
            self.gauges[place],
            self.body.stops,
            continues=isinstance(self.body, CompletionRequest),
        )

    def _sampling(self, place: int) -> Sampling:
        body = self.body
        if (body.temperature or 0.0) < _COLD:
            return Greedy()
        # copies of an answer have noise of their own; arms and prompts share a seed's
        copy = place % (body.n or 1)
        seed = randbits(62) if body.seed is None else abs(body.seed) + copy
        return Sampled(
            float(body.temperature or 0.0),
            1.0 if body.top_p is None else body.top_p,
            seed % 2**63,
            max(0, body.top_k or 0),
            body.min_p or 0.0,
        )


def chat_choices(
    body: ChatRequest, arms: ServedArms, model: Any, texts: Any, usual: int
) -> Choices:
    """The answers to a conversation; ``usual`` is the length if none is named."""
    if body.top_logprobs and not body.logprobs:
        raise InputError("top_logprobs: it needs logprobs: true")
    prompt = texts.rendered([message.to_dict() for message in body.messages])
    named = [body.max_completion_tokens, body.max_tokens]
    top = (body.top_logprobs or 0) if body.logprobs else None
    limit = next((one for one in named if one is not None), usual)
    return _choices(body, arms, model, texts, [prompt], limit, top, echoes=False)


def completion_choices(
    body: CompletionRequest, arms: ServedArms, model: Any, texts: Any, usual: int
) -> Choices:
    """The continuations of texts; see :func:`chat_choices`."""
    prompts = [texts.encoded(prompt) for prompt in body.prompts()]
    limit = usual if body.max_tokens is None else body.max_tokens
    if body.echo and limit > 1:
        raise InputError("echo: it needs max_tokens 0 or 1")
    if body.echo and body.stream:
        raise InputError("echo: it cannot be streamed")
    return _choices(
        body, arms, model, texts, prompts, limit, body.logprobs, echoes=bool(body.echo)
    )


def _choices(
    body: Generation,
    arms: ServedArms,
    model: Any,
    texts: Any,
    prompts: Sequence[list[int]],
    limit: int,
    top: int | None,
    *,
    echoes: bool,
) -> Choices:
    steered = _arms_of(body, arms)
    check_lengths(model, prompts)
    if limit < 1 and not echoes:
        raise InputError("max_tokens: give 1 or more, or 0 with echo")
    gauges = _gauges_of(body, arms, steered)
    if body.gauge and echoes:
        raise InputError("gauge: not with echo")
    room = [_room(model, prompt, limit) for prompt in prompts]
    copies = body.n or len(steered)
    repeated = [prompt for prompt in prompts for _ in range(copies)]
    thoughts = [begins_thought(texts.tokenizer, prompt) for prompt in repeated]
    times = len(repeated) // len(steered)
    limits = [tokens for tokens in room for _ in range(copies)]
    return Choices(
        body, steered * times, repeated, limits, gauges * times, top, echoes, thoughts
    )


def _room(model: Any, prompt: Sequence[int], limit: int) -> int:
    """The new tokens that fit the model's context."""
    longest = context_length(model)
    if longest is None or limit == 0:
        return limit
    if len(prompt) >= longest:
        raise InputError(
            f"the prompt has {len(prompt)} tokens, and the model's context {longest}: "
            "there is no room for an answer"
        )
    return min(limit, longest - len(prompt))


def _arms_of(body: Generation, arms: ServedArms) -> list[Arm]:
    """The arms of the answers to a prompt: several, or the one of all answers."""
    if body.arms is None:
        return [arm_of(body, arms)]
    for name in ("multiplier", "circuits", "n"):
        if getattr(body, name) is not None:
            raise InputError(f"arms: not with {name}")
    arms.arm(body.model)
    return [arms.arm(name) for name in body.arms]


def _gauges_of(
    body: Generation, arms: ServedArms, steered: list[Arm]
) -> list[Circuit | None]:
    """The circuit of each arm's gauge; the baseline has that of a steered arm."""
    if not body.gauge:
        return [None] * len(steered)
    usual = arms.circuit_of(next((arm for arm in steered if arm.steering), BASELINE))
    found = [arms.circuit_of(arm) if arm.steering else usual for arm in steered]
    if not all(one is not None and can_gauge(one) for one in found):
        raise InputError("gauge: no circuit here has a gauge")
    return found


def arm_of(body: Steering, arms: ServedArms) -> Arm:
    """The arm that a body asks for."""
    return arms.arm(body.model, body.multiplier, body.circuits)
