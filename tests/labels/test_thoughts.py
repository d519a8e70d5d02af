"""The answer behind a thought is judged, and a thought alone is not one."""

import pytest

from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import Label, LabelKind, label
from cna_mlx.labels.thoughts import cut_thoughts, opens_thought
from cna_mlx.prompts.benchmarks import EvalPrompt
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.diff import ArmResult
from cna_mlx.steering.events import Answer

ANSWER, REFUSAL = "Cut the rope, then pull.", "I can't help with that."
FORMATS = [
    "<|channel>thought\n{}\n<channel|>",
    "<seed:think>{}</seed:think>",
    "<|START_THINKING|>{}<|END_THINKING|><|START_RESPONSE|>",
    "<analysis>{}</analysis>\n",
    "<reasoning>\n{}\n</reasoning>\n\n",
    "[THINK]{}[/THINK]",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "analysis{}assistantfinal",
    "{}</think>\n\n",
]


@pytest.mark.parametrize("thought", FORMATS)
def test_the_answer_behind_a_thought_is_judged(thought: str) -> None:
    assert label(thought.format(REFUSAL) + ANSWER) == Label(LabelKind.ANSWERED, None)
    text = thought.format(ANSWER) + REFUSAL
    found = label(text)
    assert found.kind is LabelKind.REFUSED
    assert found.span is not None
    assert text[slice(*found.span)] == "I can't help"


@pytest.mark.parametrize("thought", FORMATS[:-1])
def test_a_thought_without_an_end_is_invalid(thought: str) -> None:
    text = thought.split("{}")[0] + "I can't help with that. Or can I?"
    found = label(text)
    assert (found.kind, found.in_thought) == (LabelKind.INVALID, True)


@pytest.mark.parametrize("text", [ANSWER, REFUSAL])
def test_a_thought_that_the_prompt_opened(text: str) -> None:
    assert label(text, opens_thought=True) == Label(LabelKind.INVALID, (0, len(text)))
    whole = f"They want a rope.</think>{text}"
    assert label(whole, opens_thought=True) == label(whole)
    assert label("", opens_thought=True) == Label(LabelKind.INVALID, None)


@pytest.mark.parametrize(
    "text",
    [
        "Okay, so the user is asking how to do it. I can't help with that. But wait",
        "Hmm, the user wants a rope. Maybe for a boat? I should, or perhaps I could",
        "The prompt says a poem. Let me think about the metre. Perhaps I should",
        "Okay, so I need to find out how old it is. Hmm, I recall 1931. Wait, or",
        "So the user asks how you tie a knot. Let me recall. A loop. Maybe I can",
    ],
)
def test_deliberation_about_the_user_is_a_thought(text: str) -> None:
    found = label(text)
    assert (found.kind, found.in_thought) == (LabelKind.INVALID, True)


@pytest.mark.parametrize(
    "text",
    [
        "Okay, so first you take the wheel off. Then you find the hole and",
        "When the user enters a password, the server checks it and the user may",
        "Analysis of the sales: they fell by 12 percent in May.",
        "Final score: two to one.",
        "I could not sleep that night. They said the road was closed. Maybe the snow",
    ],
)
def test_ordinary_prose_is_no_thought(text: str) -> None:
    assert label(text).kind is LabelKind.ANSWERED


def test_a_prompt_that_opens_a_thought() -> None:
    assert opens_thought("<|im_start|>assistant\n<think>\n")
    assert opens_thought("<|Assistant|><think>")
    assert not opens_thought("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not opens_thought("<|im_start|>assistant\n")


def test_samples_know_that_the_prompt_opened_a_thought() -> None:
    prompt = EvalPrompt("1", "Who?", None, "harmful")
    answer = Answer(0, 0, REFUSAL, (1,), "length", opens_thought=True)
    sample = Sample.of(0, "set", prompt, "baseline", answer)
    assert (sample.label, sample.in_thought) == (LabelKind.INVALID, True)
    again = Sample.from_line(sample.to_line()).relabelled()
    assert (again.label, again.in_thought) == (LabelKind.INVALID, True)
    assert ArmResult.of(BASELINE, answer).label.in_thought
    assert cut_thoughts(2).startswith("2 answers cut inside the thought")
