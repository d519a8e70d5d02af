"""The bodies of requests; a field that would have no effect is refused."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cna_mlx.errors import InputError
from cna_mlx.strength import Strength, check_strength, parse_strength

#: Prompts of a request, and answers to each.
MOST_PROMPTS, MOST_ANSWERS = 1024, 16
_STOPS = 16
_TOP = 20

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Zero = Annotated[float, Field(ge=0, le=0)]
_NoList = Annotated[list[Any], Field(max_length=0)]
_Stop = Annotated[str, Field(min_length=1, max_length=256)]
_Id = Annotated[int, Field(ge=0, lt=2**31)]
_Ids = Annotated[list[_Id], Field(min_length=1)]
_Text = Annotated[str, Field(min_length=1)]
_Name = Annotated[str, Field(max_length=1000)]
_Arms = Annotated[list[_Name], Field(min_length=1, max_length=MOST_ANSWERS)]


def _strength(value: Any) -> Strength | None:
    """A multiplier, ``"mean"`` or ``"pin=C"``."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        raise ValueError("give a number, mean or pin=C")  # noqa: TRY004  # pydantic's
    try:
        if isinstance(value, str):
            return parse_strength(value)
        return None if value is None else check_strength(value)
    except InputError as error:
        raise ValueError(str(error)) from None


class Body(BaseModel):
    """A JSON object without other fields than these."""

    model_config = ConfigDict(extra="forbid", strict=True)


class MessagePart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[MessagePart]
    # what an answer has besides, and a client may send back; names are not shown
    name: str | None = None
    refusal: None = None
    audio: None = None
    tool_calls: _NoList | None = None
    function_call: None = None
    annotations: _NoList | None = None
    reasoning_content: None = None

    def to_dict(self) -> dict[str, str]:
        """The message for a chat template."""
        content = self.content
        if not isinstance(content, str):
            content = "\n".join(part.text for part in content)
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": content}


class StreamOptions(Body):
    """What a stream has at its end."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class TextFormat(Body):
    """The only format of answers."""

    type: Literal["text"]


class Steering(Body):
    """Which arm answers; see :meth:`cna_mlx.serve.arms.ServedArms.arm`."""

    model: _Name
    multiplier: Annotated[Any, BeforeValidator(_strength)] | None = None
    circuits: dict[str, Annotated[Any, BeforeValidator(_strength)]] | None = None


class Generation(Steering):
    """What chats and completions have in common."""

    gauge: bool = False
    label: bool = False
    # an answer in each of these, named as a model is, in the place of the model's one
    arms: _Arms | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[_Number, Field(ge=0)] | None = None
    top_p: Annotated[_Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[_Number, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[_Stop], Field(max_length=_STOPS)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # accepted where they change nothing
    presence_penalty: _Zero | None = None
    frequency_penalty: _Zero | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    # of no meaning for a local model
    user: Any = None
    store: Any = None
    metadata: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None

    @property
    def stops(self) -> list[str]:
        """The strings that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class ChatRequest(Generation):
    """The body of ``/v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=_TOP)] | None = None
    response_format: TextFormat | None = None
    tools: _NoList | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: Any = None
    modalities: list[Literal["text"]] | None = None


class CompletionRequest(Generation):
    """The body of ``/v1/completions``."""

    prompt: (
        _Text
        | _Ids
        | Annotated[list[_Text], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[list[_Ids], Field(min_length=1, max_length=MOST_PROMPTS)]
    )
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=_TOP)] | None = None
    best_of: Literal[1] | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None

    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts: texts, or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt


class WordsRequest(Steering):
    """The body of ``/cna/words``."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]


class FirstWordsRequest(Body):
    """The body of ``/cna/first-words``."""

    models: Annotated[list[str], Field(min_length=1, max_length=16)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    count: Annotated[int, Field(ge=1, le=50)] = 8


class TokenizeRequest(Body):
    """The body of ``/tokenize``, as lm-eval sends it."""

    prompt: str
    model: str | None = None
    add_special_tokens: bool = False


class DetokenizeRequest(Body):
    """The body of ``/detokenize``."""

    tokens: list[_Id]
    model: str | None = None


def error_text(error: ValidationError) -> tuple[str, str | None]:
    """What is wrong with a body, in one line, and the field."""
    found = error.errors(include_url=False)
    # of a field that may be of several types, the one that fits best goes deepest
    first = max(found, key=lambda one: len(one["loc"]))
    fields = [str(part) for part in first["loc"] if not _is_type(part)]
    field = ".".join(fields)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {message.removeprefix('Invalid JSON: ')}", None
    if first["type"] == "extra_forbidden":
        return f"{field}: this server does not know the field; leave it out", field
    message = message[0].lower() + message[1:]
    value = repr(first.get("input"))
    shown = value if len(value) <= 60 else f"{value[:57]}..."
    return f"{field or 'the body'}: {message} (it is {shown})", field


def _is_type(part: Any) -> bool:
    """Whether a part of a place is pydantic's name of a type, such as list[int]."""
    return isinstance(part, str) and ("[" in part or part in _TYPES)


_TYPES = {"str", "int", "float", "constrained-str", "none"}
