"""Check how a model's tokenizer renders prompts."""

from collections.abc import Iterator
from functools import partial
from textwrap import shorten
from typing import Any

from cna_mlx.diagnostics.results import Check, Fact, Item, checked, ok, warning
from cna_mlx.models.tokenizer import turn_end
from cna_mlx.prompts.chat_template import (
    Rendering,
    injected_system,
    render_prompt,
    template_arguments,
    uses_template,
)
from cna_mlx.steering.decoding import text_of
from cna_mlx.util.environment import attempt

_PROMPT = "What is a neuron?"
# What prompts and answers consist of; the first is in every model's language.
_TEXTS = (
    "What is a neuron?",
    "It's 1 + 2 = 3 (50%); 'yes', \"no\".",
    "def f(x):\n    return [x]\n",
    "Zo\u00eb, gr\u00fc\u00dfe \u00bfqu\u00e9?",
    "\u65e5\u672c\u8a9e \U0001f642",
)


def template_items(tokenizer: Any, added_end: str | None = None) -> Iterator[Item]:
    """Report and check how this tokenizer turns prompts into token ids, and back.

    ``added_end`` is the turn's end that the model does not list as an end token.
    """
    plain = Rendering()
    if not uses_template(tokenizer, plain):
        yield Fact(
            "chat template", "none", remark="the model continues prompts as plain text"
        )
    else:
        yield Fact("chat template", "yes")
        system = attempt(lambda: injected_system(tokenizer, plain))
        shown = shorten(system, 80, placeholder=" ...") if system else "none"
        yield Fact("system prompt", shown)
        yield Fact("thinking", attempt(partial(_thinking, tokenizer)))
        yield checked("generation prompt", check_generation_prompt, tokenizer)
        yield checked("turn end", check_turn_end, tokenizer, added_end)
    yield checked("BOS", check_bos, tokenizer)
    yield checked("round trip", check_round_trip, tokenizer)


def _thinking(tokenizer: Any) -> str:
    ids = [
        render_prompt(tokenizer, _PROMPT, Rendering(thinking=thinking))
        for thinking in (False, True)
    ]
    return "not supported" if ids[0] == ids[1] else "supported (--thinking)"


def check_generation_prompt(tokenizer: Any) -> Check:
    """Check that a rendered prompt ends where the model's answer begins."""
    messages = [{"role": "user", "content": _PROMPT}]
    with_prompt, without = (
        tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=wanted,
            **template_arguments(tokenizer, Rendering()),
        )
        for wanted in (True, False)
    )
    if with_prompt == without:
        return warning(
            "the template does not open an answer: the model may continue the question",
            "use the template of a newer conversion, or --chat-template off",
        )
    opening = with_prompt.removeprefix(without)
    return ok(f"the template ends with {opening[-80:]!r}")


def check_bos(tokenizer: Any) -> Check:
    """Check that a prompt begins with at most one BOS token."""
    bos = getattr(tokenizer, "bos_token_id", None)
    ids = render_prompt(tokenizer, _PROMPT)
    count = 0
    while bos is not None and ids[count : count + 1] == [bos]:
        count += 1
    detail = f"{count} at the start of a prompt"
    if count < 2:
        return ok(detail)
    return warning(
        f"{detail}: models are trained with one",
        "remove the BOS token from the template, or convert the model again",
    )


def check_turn_end(tokenizer: Any, added_end: str | None = None) -> Check:
    """Check that the template's turn end is a token that ends answers."""
    if added_end is not None:
        return warning(
            f"{added_end} ends a turn in the template, but eos_token_id does not list "
            "it: answers end there too",
            "add its id to eos_token_id in generation_config.json",
        )
    end = turn_end(tokenizer)
    if end is not None:
        return ok(f"{tokenizer.convert_ids_to_tokens(end)} ends a turn and an answer")
    return warning(
        "no special token ends a turn in the template: answers may run into the next",
        "use the tokenizer and the template of the original model",
    )


def check_round_trip(tokenizer: Any) -> Check:
    """Check that texts survive the way to token ids and back."""
    for text in _TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        for found in (tokenizer.decode(ids), text_of(tokenizer, ids)):
            if found.strip() != text.strip():
                return warning(
                    f"{text!r} comes back as {shorten(repr(found), 80)}",
                    "use tokenizer.json and tokenizer_config.json of the original "
                    "model",
                )
    return ok(f"{len(_TEXTS)} texts come back from their token ids")
