"""Check how a model's tokenizer renders prompts."""

from collections.abc import Iterator
from functools import partial
from textwrap import shorten
from typing import Any

from cna_mlx.diagnostics.results import Check, Fact, Item, checked, ok, warning
from cna_mlx.prompts.chat_template import (
    Rendering,
    injected_system,
    render_prompt,
    uses_template,
)
from cna_mlx.util.environment import attempt

_PROMPT = "What is a neuron?"


def template_items(tokenizer: Any) -> Iterator[Item]:
    """Report and check how this tokenizer turns prompts into token ids."""
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
    yield checked("BOS", check_bos, tokenizer)


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
            messages, tokenize=False, add_generation_prompt=wanted
        )
        for wanted in (True, False)
    )
    if with_prompt == without:
        return warning(
            "the template does not open an answer: the model may continue the question",
            "use the template of a newer conversion, or --chat-template off",
        )
    opening = with_prompt.removeprefix(without)
    return ok(f"the template ends with {opening[-40:]!r}")


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
