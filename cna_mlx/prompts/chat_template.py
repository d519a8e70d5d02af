"""Render messages to token ids, the same way for discovery, generation and cache."""

import hashlib
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

from cna_mlx.errors import InputError
from cna_mlx.models.template_limits import TemplateLimitError, template_limits
from cna_mlx.models.transformers_internals import dated_template

Message = dict[str, str]

# The default date of Llama 3's template.
DEFAULT_DATE = date(2024, 7, 26)
_REFERENCE = "What is a neuron?"
_MARK = "cna-system-mark"
# Exceptions of templates besides their own.
_TEMPLATE_FAILURES = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    NameError,  # Jinja writes 1e999 as inf into the code that it makes
)


@dataclass(frozen=True)
class Rendering:
    """How messages become token ids.

    Attributes:
        template: use the tokenizer's chat template: ``auto`` if it has one, ``on``
            or ``off``.
        system: the user's system prompt, or None.
        thinking: passed to the template as ``enable_thinking``.
        date: the date given to templates that print today's date, so that the ids do
            not change from day to day.
    """

    template: Literal["auto", "on", "off"] = "auto"
    system: str | None = None
    thinking: bool = False
    date: date = DEFAULT_DATE

    def __post_init__(self) -> None:
        if self.template not in ("auto", "on", "off"):
            raise InputError(f"chat template {self.template!r}: choose auto, on or off")
        if self.system is not None and not isinstance(self.system, str):
            raise InputError(f"the system prompt {self.system!r:.80} is not text")

    def to_dict(self) -> dict[str, Any]:
        """The rendering as a dict for JSON."""
        return {**asdict(self), "date": self.date.isoformat()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Rendering":
        """The rendering that :meth:`to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: the data is of another form.
        """
        return cls(
            data["template"],
            data["system"],
            bool(data["thinking"]),
            date.fromisoformat(data["date"]),
        )


def uses_template(tokenizer: Any, rendering: Rendering) -> bool:
    """Whether the chat template is used.

    Raises:
        InputError: the template is required and the tokenizer has none.
    """
    has_template = _has_template(tokenizer)
    if rendering.template == "on" and not has_template:
        raise InputError(
            "the tokenizer has no chat template: use --chat-template auto or off"
        )
    return has_template and rendering.template != "off"


def render(
    tokenizer: Any, messages: list[Message], rendering: Rendering | None = None
) -> list[int]:
    """Token ids of a conversation, ready for the model's answer.

    With a template these are the template's own ids: tokenizing its text would add a
    second BOS with Llama's tokenizers. Without one, the messages are joined by newlines
    and tokenized as plain text.

    Args:
        tokenizer: as :func:`cna_mlx.load` returns it.
        messages: dicts with ``role`` and ``content``, oldest first, without a system
            message (the rendering has it).
        rendering: the default one if None.

    Raises:
        InputError: the template refuses these messages.
    """
    rendering = rendering or Rendering()
    if rendering.system is not None:
        messages = [{"role": "system", "content": rendering.system}, *messages]
    if uses_template(tokenizer, rendering):
        return _apply(tokenizer, messages, rendering, tokenize=True)
    text = "\n".join(message["content"] for message in messages)
    return list(tokenizer.encode(text))


def render_prompt(
    tokenizer: Any, prompt: str, rendering: Rendering | None = None
) -> list[int]:
    """Token ids of one user prompt; see :func:`render`."""
    return render(tokenizer, [{"role": "user", "content": prompt}], rendering)


def reference_hash(tokenizer: Any, rendering: Rendering) -> str:
    """A hash of a reference prompt's ids: it identifies the template."""
    ids = render_prompt(tokenizer, _REFERENCE, rendering)
    return hashlib.sha256(repr(ids).encode()).hexdigest()


def injected_system(tokenizer: Any, rendering: Rendering) -> str | None:
    """The system prompt that the template adds if none is given, or None.

    Qwen2.5's template adds one. It is what stands in a rendered conversation at the
    place of a marked system prompt.
    """
    if rendering.system is not None or not uses_template(tokenizer, rendering):
        return None
    user = {"role": "user", "content": _REFERENCE}
    system = {"role": "system", "content": _MARK}
    try:
        marked = _apply(tokenizer, [system, user], rendering, tokenize=False)
    except InputError:  # this template accepts no system prompt
        return None
    plain = _apply(tokenizer, [user], rendering, tokenize=False)
    before, _, after = marked.partition(_MARK)
    if after and plain.startswith(before) and plain.endswith(after):
        return plain[len(before) : len(plain) - len(after)].strip() or None
    return None


def template_arguments(tokenizer: Any, rendering: Rendering) -> dict[str, Any]:
    """The arguments of ``apply_chat_template`` besides the messages."""
    arguments: dict[str, Any] = {"enable_thinking": rendering.thinking}
    if (dated := dated_template(tokenizer, rendering.date)) is not None:
        arguments["chat_template"] = dated
    return arguments


def _has_template(tokenizer: Any) -> bool:
    own = getattr(tokenizer, "has_chat_template", None)
    return bool(getattr(tokenizer, "chat_template", None) if own is None else own)


def _apply(
    tokenizer: Any, messages: list[Message], rendering: Rendering, *, tokenize: bool
) -> Any:
    from jinja2 import TemplateError

    named = getattr(tokenizer, "chat_template", None)
    if isinstance(named, dict) and "default" not in named:
        raise InputError(
            f"the chat templates ({', '.join(named)}) have no default: use "
            "--chat-template off, or the tokenizer of the original model"
        )
    try:
        with template_limits():
            result = tokenizer.apply_chat_template(
                messages,
                add_generation_prompt=True,
                tokenize=tokenize,
                **template_arguments(tokenizer, rendering),
            )
    except (TemplateLimitError, MemoryError):
        raise InputError(
            "the chat template takes too long or too much memory: use "
            "--chat-template off, or fetch the model's template again"
        ) from None
    except (TemplateError, *_TEMPLATE_FAILURES) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the chat template refuses these messages: {message}"
        ) from error
    return list(result) if tokenize else result
