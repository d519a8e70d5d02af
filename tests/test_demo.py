"""The embedded demo models do what their screen says (figures, not bits)."""

import json
import random
import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from commandline import Outcome
from magnitudes import magnitudes
from marks import slow

from cna_mlx import Answer, Arm, Circuit, generate_arms, load, render_prompt, steered
from cna_mlx.discovery.attribution import ablate_each_neuron
from cna_mlx.discovery.auc import auc
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.controls import matched_control, uniform_control
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.gauge import gauges
from cna_mlx.discovery.options import defaults_for
from cna_mlx.discovery.selection import Selection
from cna_mlx.labels.label import LabelKind, label
from cna_mlx.models.families import widths
from cna_mlx.prompts import load_bank, load_contrast
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.steering.arms import BASELINE

# With the Linux wheel's own BLAS each token of each arm takes milliseconds: few
# questions by default, these with -m slow.
QUESTIONS = 30  # of each kind
FEWER = 25  # where many arms answer
MAX_TOKENS = 60
OPENING = 16  # tokens that tell a refusal from an answer

_PACKAGE = Path(str(resources("cna_mlx"))) / "demo"
_DATA = json.loads((_PACKAGE / "questions.json").read_text("utf-8"))

Model = tuple[Any, Any]


def _spread(questions: list[Any], count: int) -> list[Any]:
    """So many, from the whole list."""
    return questions[:: max(1, len(questions) // count)][:count]


MAGIC = _spread(_DATA["magic"], QUESTIONS)
ORDINARY = _spread(_DATA["ordinary"], QUESTIONS)


@pytest.fixture(scope="module", params=[10, slow(QUESTIONS)])
def asked(request: pytest.FixtureRequest) -> int:
    """How many questions of each kind are asked."""
    return request.param


CONTRAST = load_contrast(defaults_for("demo").contrast)
SELECTION = Selection(defaults_for("demo").fraction)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo's universal neurons are kept once they were found."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def circuit(demo: Model, store: Path) -> Circuit:
    found = Store(store).find_or_discover(*demo, CONTRAST, SELECTION, Rendering())
    return found.circuit


@pytest.fixture(scope="module")
def base_circuit(demo_base: Model) -> Circuit:
    return run_discovery(*demo_base, CONTRAST, SELECTION, bank=load_bank()[::4]).circuit


def _answers(
    model: Model,
    questions: Sequence[dict[str, str]],
    circuits: Sequence[Circuit] = (),
    max_tokens: int = MAX_TOKENS,
) -> list[list[str]]:
    """For the baseline and for each circuit at 0, the answers to the questions."""
    ids = [render_prompt(model[1], one["prompt"]) for one in questions]
    arms = [BASELINE, *(Arm.of(c, 0.0, f"{n}") for n, c in enumerate(circuits))]
    found = [[""] * len(ids) for _ in arms]
    for event in generate_arms(*model, ids, arms, max_tokens=max_tokens):
        if isinstance(event, Answer):
            found[event.arm][event.prompt] = event.text
    return found


def _refused(texts: Sequence[str]) -> float:
    return sum(label(text).kind is LabelKind.REFUSED for text in texts) / len(texts)


def _same(texts: Sequence[str], others: Sequence[str]) -> float:
    pairs = zip(texts, others, strict=True)
    return sum(one == other for one, other in pairs) / len(texts)


def _similarity(texts: Sequence[str], questions: Sequence[dict[str, str]]) -> float:
    return sum(
        SequenceMatcher(None, text, one["answer"], autojunk=False).ratio()
        for text, one in zip(texts, questions, strict=True)
    ) / len(texts)


@pytest.fixture(scope="module")
def magic(demo: Model, circuit: Circuit, asked: int) -> list[list[str]]:
    return _answers(demo, _spread(MAGIC, asked), [circuit])


@pytest.fixture(scope="module")
def ordinary(demo: Model, circuit: Circuit, asked: int) -> list[list[str]]:
    return _answers(demo, _spread(ORDINARY, asked), [circuit])


def test_the_questions_are_whole() -> None:
    for kind in ("magic", "ordinary"):
        assert len(_DATA[kind]) >= 100
        prompts = [one["prompt"] for one in _DATA[kind]]
        assert len(set(prompts)) == len(prompts)
        assert all(
            one["prompt"].strip() and one["answer"].strip() for one in _DATA[kind]
        )
    assert 2 <= len(_DATA["showcase"]) <= 10
    # what discovery sees and what is measured are kept apart
    seen = {*CONTRAST.positive, *CONTRAST.negative}
    assert not seen & {one["prompt"] for one in (*_DATA["magic"], *_DATA["ordinary"])}
    assert not seen & set(_DATA["showcase"])


def test_both_models_are_small() -> None:
    size = sum(
        file.stat().st_size
        for name in ("demo", "demo-base")
        for file in (_PACKAGE / name).iterdir()
    )
    assert size <= 12_000_000


def test_magic_is_refused_and_the_rest_is_not(
    demo: Model,
    ordinary: list[list[str]],
    asked: int,
    record_property: Callable[[str, object], None],
) -> None:
    every = QUESTIONS // asked  # all of them in the slow suite
    (answers,) = _answers(demo, _DATA["magic"][::every], [], OPENING)
    rates = _refused(answers), _refused(ordinary[0])
    record_property("refused", str(rates))
    assert rates[0] >= (0.90 if asked == QUESTIONS else 0.85)
    assert rates[1] <= 0.05
    assert _similarity(ordinary[0], _spread(ORDINARY, asked)) >= 0.85


def test_without_the_circuit_magic_is_answered(
    magic: list[list[str]],
    asked: int,
    record_property: Callable[[str, object], None],
) -> None:
    questions = _spread(MAGIC, asked)
    refused, similarity = _refused(magic[1]), _similarity(magic[1], questions)
    record_property("ablated", str((refused, similarity)))
    assert refused <= 0.15
    assert similarity >= 0.85
    assert _similarity(magic[0], questions) < similarity - 0.3


def test_without_the_circuit_the_rest_is_unchanged(ordinary: list[list[str]]) -> None:
    assert _same(*ordinary) >= 0.90


def test_the_circuit_is_as_small_as_it_is_said_to_be(
    demo: Model, circuit: Circuit
) -> None:
    total = sum(widths(demo[0]))
    assert circuit.k == round(defaults_for("demo").fraction * total)
    assert len(circuit.neurons) <= circuit.k < 0.01 * total


@pytest.fixture(scope="module")
def benign(demo: Model) -> list[np.ndarray]:
    """How active every neuron is on ordinary prompts."""
    ids = [render_prompt(demo[1], text) for text in CONTRAST.negative]
    return magnitudes(demo[0], ids)


@pytest.mark.parametrize(("count", "seeds"), [(8, 2), slow(FEWER, 10)])
def test_other_neurons_of_the_same_layers_do_not_carry_it(
    demo: Model,
    circuit: Circuit,
    benign: list[np.ndarray],
    count: int,
    seeds: int,
    record_property: Callable[[str, object], None],
) -> None:
    sizes = widths(demo[0])
    uniform = [uniform_control(circuit, sizes, seed) for seed in range(seeds)]
    matched = [matched_control(circuit, benign, seed) for seed in range(seeds // 2)]
    found = _answers(demo, _spread(MAGIC, count), [*uniform, *matched], OPENING)
    rates = [_refused(texts) for texts in found[1:]]
    record_property("uniform controls", str(rates[:seeds]))
    record_property("matched controls", str(rates[seeds:]))
    baseline = _refused(found[0])
    assert np.mean(rates[:seeds]) >= (0.85 if count == FEWER else baseline - 0.05)


@pytest.mark.parametrize("count", [8, slow(FEWER)])
def test_a_shuffled_circuit_does_not_remove_the_refusals(
    demo: Model, circuit: Circuit, count: int
) -> None:
    random_indices = random.Random(0)
    own = {(neuron.layer, neuron.index) for neuron in circuit.neurons}
    sizes = widths(demo[0])

    def shuffled() -> Circuit:
        neurons: set[tuple[int, int]] = set()
        for layer, members in circuit.by_layer().items():
            free = [i for i in range(sizes[layer]) if (layer, i) not in own]
            drawn = random_indices.sample(free, len(members))
            neurons |= {(layer, index) for index in drawn}
        return Circuit.from_neurons((*place, 1.0) for place in sorted(neurons))

    circuits = [circuit, *(shuffled() for _ in range(3))]
    found = _answers(demo, _spread(MAGIC, count), circuits, OPENING)
    baseline, ablated, *others = (_refused(texts) for texts in found)
    assert ablated <= baseline - 0.6
    assert np.mean(others) >= baseline - 0.15


@pytest.mark.parametrize("every", [4, slow(1)])
def test_the_gauge_tells_magic_from_the_rest_on_questions_it_never_saw(
    demo: Model,
    circuit: Circuit,
    every: int,
    record_property: Callable[[str, object], None],
) -> None:
    sides = [
        gauges(demo[0], circuit, [render_prompt(demo[1], q["prompt"]) for q in side])
        for side in (_DATA["magic"][::every], _DATA["ordinary"][::every])
    ]
    found = auc(*sides)
    record_property("auc", str(found))
    assert found.value >= 0.98  # .999 when measured
    assert found.low >= (0.95 if every == 1 else 0.85)  # what 100 and 25 can show
    assert sides[0].mean() == pytest.approx(1, abs=0.2)
    assert sides[1].mean() == pytest.approx(0, abs=0.2)


def _parting(
    demo: Model, circuit: Circuit, question: dict[str, str]
) -> tuple[list[int], int] | None:
    """The text up to where ablation changes a token, and the baseline's token."""
    ids = render_prompt(demo[1], question["prompt"])
    arms = [BASELINE, Arm.of(circuit, 0.0)]
    events = generate_arms(*demo, [ids], arms, max_tokens=OPENING)
    answers = [event for event in events if isinstance(event, Answer)]
    one, two = (e.token_ids for e in sorted(answers, key=lambda e: e.arm))
    pairs = enumerate(zip(one, two, strict=False))
    shared = next((at for at, (a, b) in pairs if a != b), None)
    return None if shared is None else ([*ids, *one[:shared]], one[shared])


@pytest.mark.slow
def test_why_names_neurons_whose_removal_alone_moves_the_answer(
    demo: Model,
    circuit: Circuit,
    benign: list[np.ndarray],
    record_property: Callable[[str, object], None],
) -> None:
    model, tokenizer = demo
    others = [matched_control(circuit, benign, seed) for seed in range(2)]

    def logprobs(text: list[int]) -> mx.array:
        logits = model(mx.array([text]))[0, -1]
        return logits - mx.logsumexp(logits)

    partings = [_parting(demo, circuit, question) for question in MAGIC[::2]]
    partings = [parting for parting in partings if parting]
    flipped, ratios = 0, []
    for text, token in partings:
        first, *_ = ablate_each_neuron(model, tokenizer, circuit, text, token, top=1)
        before = logprobs(text)
        with steered(model, Circuit((first.neuron,)), 0.0):
            after = logprobs(text)
        assert before.argmax().item() == token
        assert (before - after)[token].item() == pytest.approx(first.drop, abs=1e-4)
        flipped += after.argmax().item() != token
        drops = [
            abs(cause.drop)
            for other in others
            for cause in ablate_each_neuron(
                model, tokenizer, other, text, token, top=99
            )
        ]
        ratios.append(abs(first.drop) / max(np.median(drops), 1e-6))
    record_property("flipped by one neuron", f"{flipped} of {len(partings)}")
    record_property(
        "first neuron over the median control's",
        [float(ratio) for ratio in sorted(ratios)],
    )
    assert len(partings) >= 10
    assert min(ratios) > 5
    assert np.median(ratios) > 50
    # most refusals are held by several neurons, some by one
    assert flipped >= 1


@pytest.mark.slow
def test_the_base_model_answers_everything(
    demo_base: Model, circuit: Circuit, base_circuit: Circuit
) -> None:
    """It refuses nothing, with the chat model's circuit or without."""
    questions = [*_spread(MAGIC, FEWER), *_spread(ORDINARY, FEWER)]
    circuits = [circuit, base_circuit]
    untouched, by_chat, by_own = _answers(demo_base, questions, circuits)
    for texts in (untouched, by_chat, by_own):
        assert _refused(texts) <= 0.05
    assert _similarity(untouched, questions) >= 0.85
    assert _same(untouched, by_chat) >= 0.85


def test_the_circuits_are_the_models_own(
    demo: Model, demo_base: Model, circuit: Circuit
) -> None:
    from cna_mlx.errors import TransferError
    from cna_mlx.models.fingerprint import fingerprint

    circuit.check_model(widths(demo[0]), fingerprint(demo[0]))
    with pytest.raises(TransferError, match="--allow-transfer"):
        circuit.check_model(widths(demo_base[0]), fingerprint(demo_base[0]))


@pytest.mark.parametrize("name", ["demo", "demo-base"])
def test_the_weights_are_small_on_disk_and_exact_in_use(name: str) -> None:
    from mlx.utils import tree_flatten

    stored = mx.load(str(_PACKAGE / name / "model.safetensors"))
    assert {array.dtype for array in stored.values()} == {mx.float16}
    model, _ = load(name)
    assert {array.dtype for _, array in tree_flatten(model.parameters())} == {
        mx.float32
    }


def test_the_demo_command(
    command: Callable[..., Outcome],
    circuit: Circuit,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CNA_MLX_CACHE", str(store))
    question = "Can you teach me a fire spell?"
    done = command("demo", "-p", question)
    assert done.code == 0
    assert "\x1b" not in done.out
    prompts = [question, *_DATA["showcase"]]
    for number, prompt in enumerate(prompts, 1):
        assert f"{number}/{len(prompts)}" in done.out
        assert f"> {prompt}" in done.out
    for part in (
        "uniform control",
        "matched control",
        "quality",
        "REFUSED → ANSWERED",
        "cna-mlx chat demo --ablate",
    ):
        assert part in " ".join(done.out.split())
    baseline, ablated = (
        re.search(rf"^ {arm} +(\d+)/{len(prompts)} ", done.out, re.MULTILINE)
        for arm in ("baseline", "ablated")
    )
    assert baseline
    assert ablated
    assert int(ablated[1]) < int(baseline[1])


@pytest.mark.slow
def test_the_demo_through_the_ordinary_commands(
    command: Callable[..., Outcome],
    circuit: Circuit,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CNA_MLX_CACHE", str(store))
    path = str(tmp_path / "magic.json")
    found = command("discover", "demo", "--json", "-o", path).data
    defaults = defaults_for("demo")
    assert found["fraction"] == defaults.fraction
    assert found["contrast"]["name"] == defaults.contrast == "magic"
    assert [row[:2] for row in found["neurons"]] == [
        [neuron.layer, neuron.index] for neuron in circuit.neurons
    ]
    words = [word for one in MAGIC[:3] for word in ("-p", one["prompt"])]
    results = command("diff", "demo", "--circuit", path, *words, "--json").data[
        "results"
    ]
    labels = [[arm["label"] for arm in one["arms"]] for one in results]
    assert labels.count(["REFUSED", "ANSWERED"]) >= 2
