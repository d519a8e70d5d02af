"""A model and its steered arms for inspect_ai, in process: samples are rows of a batch.

Only this module and inspect_provider.py use inspect_ai, and parts of it that are not
documented; tests/serve/test_tool_inspect.py pins them.
"""

import atexit
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from logging import getLogger
from pathlib import Path
from typing import Any

import mlx.core as mx
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.solver._task_state import sample_state
from inspect_ai.tool import ToolChoice, ToolInfo
from pydantic import ValidationError

from cna_mlx.discovery.chosen import split_circuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CnaError, InputError
from cna_mlx.models.loading import ModelOptions
from cna_mlx.serve.answers import Answers
from cna_mlx.serve.opening import Address, open_service
from cna_mlx.serve.replies import ChatReply
from cna_mlx.serve.requests import arm_of
from cna_mlx.serve.schema import ChatRequest, error_text
from cna_mlx.serve.service import Service
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.strength import as_typed
from cna_mlx.util.progress import Reporter

_logger = getLogger(__name__)

_ARGUMENTS = ("circuit", "multiplier", "rows", "revision", "offline", "allow_transfer")
_ROWS = 64
_CLOSING_SECONDS = 30.0
# Options of inspect_ai that a request's body has, by their names there.
_FIELDS = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop_seqs": "stop",
    "seed": "seed",
    "num_choices": "n",
    "logprobs": "logprobs",
    "top_logprobs": "top_logprobs",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
}
# Options that inspect_ai sees to, or that are about tools.
_OTHERS = {
    *("max_retries", "timeout", "attempt_timeout", "stream_idle_timeout", "cache"),
    *("max_connections", "adaptive_connections", "system_message", "cache_prompt"),
    *("max_tool_output", "internal_tools", "parallel_tool_calls", "fail_on_refusal"),
    *("reasoning_history", "batch"),
}
_STOPS = {"stop": "stop", "length": "max_tokens"}


class SteeredModel(ModelAPI):
    """The models ``cna/MODEL`` and ``cna/MODEL@M``, named as `cna-mlx serve` does.

    Arguments (inspect_ai's ``-M``): ``circuit``, a FILE or FILE@M, or several with
    commas; ``multiplier``; ``rows``, the answers that run at once; ``revision``,
    ``offline`` and ``allow_transfer`` as the commands have them. Arms of the same model
    and circuits share the weights, and are rows of one batch.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **arguments: Any,
    ) -> None:
        config = config or GenerateConfig()
        super().__init__(model_name, base_url, api_key, [], config)
        try:
            self._arm = self._take(model_name, arguments)
        except CnaError as error:
            said = str(error).replace("--allow-transfer", "-M allow_transfer=true")
            raise PrerequisiteError(f"cna/{model_name}: {said}") from None

    def _take(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Open the model; return what its requests say of the arm."""
        for one in arguments:
            if one not in _ARGUMENTS:
                known = ", ".join(_ARGUMENTS)
                raise InputError(f"no argument {one!r}: there are {known}")
        multiplier = arguments.pop("multiplier", None)
        given = arguments.pop("circuit", [])
        files = [given] if isinstance(given, str) else given
        circuits = [split_circuit(one) for one in files]
        own = [strength for _, strength in circuits if strength is not None]
        if own and len(own) < len(circuits):
            raise InputError("give each circuit a multiplier, as in circuit=FILE@0")
        model, at, strength = name, "", ""
        if not Path(name).expanduser().exists():
            model, at, strength = name.partition("@")
        paths = [path for path, _ in circuits]
        self._key = (model, *paths, *sorted(arguments.items()))
        if self._key not in _open:
            _open[self._key] = _SharedModel(model, paths, **arguments)
        self._shared = _open[self._key]
        self._shared.users += 1
        try:
            arms = self._shared.service.arms
            arm: dict[str, Any] = {"model": f"{arms.model}{at}{strength}"}
            if own:
                typed = map(as_typed, own)
                arm["circuits"] = dict(zip(arms.circuits, typed, strict=True))
            if multiplier is not None:
                arm["multiplier"] = multiplier
            body = _validated({**arm, "messages": [{"role": "user", "content": ""}]})
            arm_of(body, arms)
        except CnaError:
            self.close()
            raise
        return arm

    def close(self) -> None:
        """Let go of the model: with its last arm it ends."""
        self._shared.users -= 1
        if not self._shared.users:
            del _open[self._key]
            self._shared.end()

    def max_connections(self) -> int:
        """How many samples run at once."""
        return self._shared.service.engine.most_rows

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Answer a conversation.

        Raises:
            InputError: what it asks for would have no effect.
        """
        if tools:
            raise InputError(f"cna/{self.model_name} has no tools: use a task without")
        began = time.monotonic()
        service = self._shared.service
        body = _validated(
            {
                **self._arm,
                "messages": [_message(one) for one in input],
                "gauge": self._shared.has_gauge,
                "label": True,
                **_options(config),
            }
        )
        wanted = await service.choices(body)
        reply = ChatReply(self.model_name, service.texts.tokens, wanted.top)
        answers = Answers(wanted, reply, service.arms, service.texts)
        with service.events() as events:
            events.submit(wanted.works(events.deliver))
            found = await answers.whole(events)
        output = _output(found, time.monotonic() - began)
        self._note(output)
        return output

    def _note(self, output: ModelOutput) -> None:
        """Write gauge and label to the sample, if this model is evaluated."""
        state = sample_state()
        if state is not None and get_model().api is self:
            for name, value in (output.metadata or {}).items():
                state.metadata[f"cna_{name}"] = value


class _SharedModel:
    """A model that was loaded and runs on a thread of its own, for all its arms."""

    def __init__(self, model: str, circuits: Sequence[str], **arguments: Any) -> None:
        loaded: Future[Service] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(loaded, model, circuits, arguments), daemon=True
        )
        self._thread.start()
        self.service = loaded.result()
        found = self.service.arms.circuits.values()
        self.has_gauge = can_gauge(next(iter(found)))
        self.users = 0

    def _run(
        self,
        loaded: Future[Service],
        model: str,
        circuits: Sequence[str],
        arguments: dict[str, Any],
    ) -> None:
        try:
            service = _service(model, circuits, **arguments)
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            loaded.set_exception(error)
        else:
            loaded.set_result(service)
            service.engine.run()
        finally:
            # MLX does so when the thread is gone: at Python's end, that aborts at times
            mx.clear_streams()

    def end(self) -> None:
        """Fail what runs, and free the model."""
        self.service.engine.finish(now=True)
        self._thread.join(_CLOSING_SECONDS)
        self.service.texts.close()


#: The models that are open, by all that tells them apart.
_open: dict[tuple[Any, ...], _SharedModel] = {}


@atexit.register
def _end_all() -> None:
    while _open:
        _open.popitem()[1].end()


def _service(
    model: str,
    circuits: Sequence[str],
    rows: int = _ROWS,
    revision: str | None = None,
    offline: bool = False,
    allow_transfer: bool = False,
) -> Service:
    reporter = Reporter(note=_logger.info, warn=_logger.warning)
    source = ModelOptions(revision, offline)
    session = Session(
        model, source=source, allow_transfer=allow_transfer, reporter=reporter
    )
    nowhere = Address("localhost", 0)
    return open_service(
        session, DiscoveryOptions(), nowhere, circuits=circuits, rows=rows
    )


def _validated(body: dict[str, Any]) -> ChatRequest:
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        raise InputError(error_text(error)[0]) from None


def _message(one: ChatMessage) -> dict[str, str]:
    parts = [one.content] if isinstance(one.content, str) else one.content
    kinds = {"text" if isinstance(part, str) else part.type for part in parts}
    if one.role == "tool" or getattr(one, "tool_calls", None):
        kinds = {"tool call"}
    if others := kinds - {"text"}:
        raise InputError(f"cna models read text: a message has {min(others)}")
    return {"role": one.role, "content": one.text}


def _options(config: GenerateConfig) -> dict[str, Any]:
    """The options as a request's body has them; one without effect is refused."""
    given = config.model_dump(exclude_none=True)
    for name in given:
        if name not in _FIELDS and name not in _OTHERS:
            raise InputError(f"{name} has no effect on cna models: leave it out")
    return {_FIELDS[name]: value for name, value in given.items() if name in _FIELDS}


def _output(reply: dict[str, Any], seconds: float) -> ModelOutput:
    """A reply to a chat as inspect_ai has it; the first answer's gauge and label."""
    choices, usage = reply["choices"], reply["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return ModelOutput(
        model=reply["model"],
        choices=[
            ChatCompletionChoice(
                message=ChatMessageAssistant(
                    content=one["message"]["content"],
                    model=reply["model"],
                    source="generate",
                    metadata=one["cna"],
                ),
                stop_reason=_STOPS[one["finish_reason"]],
                logprobs=one["logprobs"] and Logprobs.model_validate(one["logprobs"]),
            )
            for one in choices
        ],
        usage=ModelUsage(
            input_tokens=usage["prompt_tokens"] - cached,
            input_tokens_cache_read=cached,
            output_tokens=usage["completion_tokens"],
            total_tokens=usage["total_tokens"],
        ),
        time=seconds,
        metadata=choices[0]["cna"],
        response_id=reply["id"],
    )
