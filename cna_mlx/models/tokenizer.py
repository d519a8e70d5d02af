"""Load a model's tokenizer, with its chat template and all tokens that end a turn."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from cna_mlx.errors import ModelError
from cna_mlx.models.hub.errors import first_line
from cna_mlx.models.mlx_lm_internals import load_tokenizer as load_with_mlx_lm
from cna_mlx.models.template_limits import template_limits
from cna_mlx.models.transformers_internals import silence_length_warning

# Exceptions that mlx-lm and transformers raise for a damaged file or a wrong value.
UNREADABLE = (
    ImportError,  # of a module that a setting names
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    UnboundLocalError,
    OSError,
)
_MARK = "cna-answer-mark"
_TURNS = [("user", "Hello."), ("assistant", _MARK), ("user", "Hello.")]


def load_tokenizer(path: Path, config: dict[str, Any], name: str) -> Any:
    """mlx-lm's tokenizer wrapper of a model directory.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        # its files are here: without this transformers may ask the Hub all the same
        tokenizer = load_with_mlx_lm(
            path, {"local_files_only": True}, eos_token_ids=config.get("eos_token_id")
        )
        _add_template(tokenizer, path)
    except (*UNREADABLE, StrictDataclassError) as error:
        raise ModelError(
            f"{name}: no usable tokenizer in {path}: {first_line(error)}"
        ) from error
    silence_length_warning(tokenizer)
    return tokenizer


def _add_template(tokenizer: Any, path: Path) -> None:
    """Read the template of a file that transformers reads for processors only."""
    file = path / "chat_template.json"
    if tokenizer.has_chat_template or not file.is_file():
        return
    found = json.loads(file.read_text("utf-8"))["chat_template"]
    if not isinstance(found, str):
        raise TypeError("chat_template.json has no template")
    tokenizer.chat_template, tokenizer.has_chat_template = found, True


def turn_end(tokenizer: Any) -> int | None:
    """The special token that ends an answer in the chat template; None without one.

    The last answer's comes first: harmony ends earlier ones as it ends a thought. GLM
    ends none but by the next turn.
    """
    ends = (_end_of_answer(tokenizer, turns) for turns in (_TURNS[:-1], _TURNS))
    return next((end for end in ends if end is not None), None)


def _end_of_answer(tokenizer: Any, turns: list[tuple[str, str]]) -> int | None:
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        with template_limits():
            text = tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=False,
                enable_thinking=False,
            )
    except Exception:  # noqa: BLE001  # a template raises anything; `render` tells
        return None
    rest = str(text).partition(_MARK)[2].lstrip()
    ids = tokenizer.encode(rest, add_special_tokens=False)
    return ids[0] if ids and ids[0] in tokenizer.added_tokens_decoder else None


def stop_at_turn_end(tokenizer: Any) -> str | None:
    """Make the template's turn end an end token; return it if it was none.

    A fine-tune with another model's ``eos_token`` otherwise talks on to itself.
    """
    if not tokenizer.has_chat_template:
        return None
    end = turn_end(tokenizer)
    if end is None or end in tokenizer.eos_token_ids:
        return None
    tokenizer.eos_token_ids = {*tokenizer.eos_token_ids, end}
    return str(tokenizer.convert_ids_to_tokens(end))
