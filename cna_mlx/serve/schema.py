"""The bodies of requests; a field that would have no effect is refused."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cna_mlx.errors import InputError
from cna_mlx.strength import Strength, check_strength, parse_strength

#: Prompts of a request, and answers to each.
MOST_PROMPTS, MOST_ANSWERS = 1024, 16
_STOPS = 16
_TOP = 20
_MESSAGES = 4096
_CIRCUITS = 64
_SHOWN = 80  # characters of a field's name

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Zero = Annotated[float, Field(ge=0, le=0)]
_NoList = Annotated[list[Any], Field(max_length=0)]
_Stop = Annotated[str, Field(min_length=1, max_length=256)]
_Stops = str | Annotated[list[_Stop], Field(max_length=_STOPS, fail_fast=True)]
_PROMPTS = Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True)
_Id = Annotated[int, Field(ge=0, lt=2**31)]
# lists fail at the first wrong item: an error for each of millions fills the memory
_Ids = Annotated[list[_Id], Field(min_length=1, fail_fast=True)]
_Text = Annotated[str, Field(min_length=1)]
_Name = Annotated[str, Field(max_length=1000)]
_Arms = Annotated[
    list[_Name], Field(min_length=1, max_length=MOST_ANSWERS, fail_fast=True)
]


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


def _few(value: Any) -> Any:
    """Refuse an object of many fields before each is looked at."""
    if isinstance(value, dict) and len(value) > _CIRCUITS:
        raise ValueError(f"give at most {_CIRCUITS} circuits")
    return value


_Circuits = Annotated[
    dict[str, Annotated[Any, BeforeValidator(_strength)]], BeforeValidator(_few)
]


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
    content: str | Annotated[list[MessagePart], Field(fail_fast=True)]
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


_Messages = Annotated[
    list[ChatMessage], Field(min_length=1, max_length=_MESSAGES, fail_fast=True)
]


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
    circuits: _Circuits | None = None


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
    stop: _Stops | None = None
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

    messages: _Messages
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=_TOP)] | None = None
    response_format: TextFormat | None = None
    tools: _NoList | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: Any = None
    modalities: Annotated[list[Literal["text"]], Field(fail_fast=True)] | None = None


class CompletionRequest(Generation):
    """The body of ``/v1/completions``."""

    prompt: (
        _Text
        | _Ids
        | Annotated[list[_Text], _PROMPTS]
        | Annotated[list[_Ids], _PROMPTS]
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

    messages: _Messages


class FirstWordsRequest(Body):
    """The body of ``/cna/first-words``."""

    models: _Arms
    messages: _Messages
    count: Annotated[int, Field(ge=1, le=50)] = 8


class TokenizeRequest(Body):
    """The body of ``/tokenize``, as lm-eval sends it."""

    prompt: str
    model: str | None = None
    add_special_tokens: bool = False


class DetokenizeRequest(Body):
    """The body of ``/detokenize``."""

    tokens: Annotated[list[_Id], Field(fail_fast=True)]
    model: str | None = None


def error_text(error: ValidationError) -> tuple[str, str | None]:
    """What is wrong with a body, in one line, and the field."""
    found = error.errors(include_url=False)
    # of a field that may be of several types, the one that fits best goes deepest
    first = max(found, key=lambda one: len(one["loc"]))
    is_unknown = first["type"] == "extra_forbidden"
    *parts, last = first["loc"] or ("",)
    fields = [str(part) for part in parts if not _is_type(part)]
    if is_unknown or not _is_type(last):
        fields.append(str(last))
    field = ascii(".".join(fields))[1:-1]  # names are the client's: lines, escapes
    field = field if len(field) <= _SHOWN else f"{field[: _SHOWN - 3]}..."
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {message.removeprefix('Invalid JSON: ')}", None
    if is_unknown:
        return f"{field}: this server does not know the field; leave it out", field
    message = message[0].lower() + message[1:]
    value = repr(first.get("input"))
    shown = value if len(value) <= 60 else f"{value[:57]}..."
    return f"{field or 'the body'}: {message} (it is {shown})", field


def _is_type(part: Any) -> bool:
    """Whether a part of a place is pydantic's name of a type, such as list[int]."""
    return isinstance(part, str) and ("[" in part or part in _TYPES)


_TYPES = {"str", "int", "float", "constrained-str", "none"}
