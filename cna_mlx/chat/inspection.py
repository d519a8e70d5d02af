"""Commands that look inside: `/neurons`, `/why`, `/sweep`."""

from cna_mlx.chat.conversation import Asked, Conversation, circuit_of
from cna_mlx.chat.reply import Grid, Reply
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.attribution import ablate_each_neuron, promoted_tokens
from cna_mlx.errors import InputError
from cna_mlx.provenance import ContrastEntry
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import ArmResult, PromptResult
from cna_mlx.steering.events import Answer, Gauged
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import check_multiplier
from cna_mlx.steering.sequences import shared_length
from cna_mlx.util.formatting import counted

_SWEEP = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_SWEEP_TOKENS = 80
_FIRST_WORDS = 12
_WHY_NEURONS = 64
_NEURONS = 10


def neurons(chat: Conversation, argument: str) -> Reply:
    """`/neurons [N]`: the circuit's first neurons, and the words they speak for.

    Raises:
        InputError: no circuit, or no number.
    """
    circuit = _wanted_circuit(chat, "/neurons")
    try:
        count = int(argument) if argument else _NEURONS
    except ValueError:
        count = 0
    if count < 1:
        raise InputError("/neurons N: how many to list, 1 or more")
    rows = []
    for number, neuron in enumerate(circuit.neurons[:count]):
        moments = circuit.moments[number] if circuit.moments else None
        words = promoted_tokens(chat.model, chat.tokenizer, neuron)
        rows.append(
            (
                str(neuron.layer),
                str(neuron.index),
                f"{neuron.delta:+.3f}",
                f"{moments.positive_mean:.3f}" if moments else "-",
                f"{moments.negative_mean:.3f}" if moments else "-",
                _words(words),
            )
        )
    layers = ", ".join(
        f"{layer}: {len(members)}" for layer, members in circuit.by_layer().items()
    )
    positive, negative = _sides(circuit)
    titles = ("layer", "neuron", "delta", positive, negative, "speaks for")
    return Reply(
        f"{counted(len(circuit.neurons), 'neuron')}; by layer {layers}",
        is_data=True,
        grid=Grid(titles, tuple(rows), 5),
    )


def _sides(circuit: Circuit) -> tuple[str, str]:
    contrast = circuit.provenance.contrast or ContrastEntry()
    return contrast.positive_label or "positive", contrast.negative_label or "negative"


def _words(tokens: tuple[str, ...]) -> str:
    return " ".join(repr(token) for token in tokens)


def why(chat: Conversation, argument: str) -> Reply:
    """`/why [ARM]`: each neuron of an arm's circuit ablated alone, where it parts.

    Raises:
        InputError: nothing was asked yet, or there is no such steered arm.
    """
    asked = _last(chat, "/why")
    last = chat.turns[-1].result
    if len(last.arms) < 2:
        raise InputError("/why compares two arms: /ablate on, and ask again")
    number = _arm_number(last, argument)
    baseline, steered = (last.arms[n].token_ids for n in (0, number))
    shared = shared_length(baseline, steered)
    if not baseline and not steered:
        return Reply("the answer was stopped before its first word")
    if shared == max(len(baseline), len(steered)):
        return Reply("both arms said the same; nothing was flipped")
    token = baseline[shared] if shared < len(baseline) else last.arms[0].end
    if token is None:
        return Reply("the baseline was cut off before the arms parted")
    circuit = circuit_of(last.arms[number].arm)
    ids = [*asked.ids, *baseline[:shared]]
    found = ablate_each_neuron(
        chat.model,
        chat.tokenizer,
        circuit,
        ids,
        token,
        most=_WHY_NEURONS,
        progress=chat.progress,
    )
    said = chat.tokenizer.decode([token])
    rows = tuple(
        (
            f"{cause.drop:+.3f}",
            str(cause.neuron.layer),
            str(cause.neuron.index),
            _words(cause.promotes),
        )
        for cause in found
    )
    return Reply(
        f"the arms part at token {shared + 1}, where the baseline says {said!r}; "
        f"{_tried(circuit)} ablated alone lowers its log-probability by:",
        is_data=True,
        grid=Grid(("drop", "layer", "neuron", "speaks for"), rows, 3),
        remark=_other_reasons(asked),
    )


def _arm_number(last: PromptResult, argument: str) -> int:
    """The arm that was named, or the first whose answer differs."""
    steered = len(last.arms) - 1
    if not argument:
        differing = (n for n in range(1, steered + 1) if last.divergence(n) is not None)
        return next(differing, 1)
    if not (argument.isdecimal() and 1 <= int(argument) <= steered):
        raise InputError(f"/why ARM: which of the {steered} steered arms, from 1")
    return int(argument)


def _tried(circuit: Circuit) -> str:
    total = len(circuit.neurons)
    if total > _WHY_NEURONS:
        return f"each of the first {_WHY_NEURONS} of {total} neurons"
    return f"each of {total} neurons"


def _other_reasons(asked: Asked) -> str:
    if not asked.histories_differed:
        return ""
    return (
        "the arms had answered differently before: they may have parted for that as "
        "well (/clear begins anew, /align makes them go on from the same)"
    )


def sweep(chat: Conversation, argument: str) -> Reply:
    """`/sweep [X ...]`: the last question at many multipliers, in one batch.

    Raises:
        InputError: nothing was asked yet, no circuit, or no multiplier.
    """
    asked = _last(chat, "/sweep")
    circuit = _wanted_circuit(chat, "/sweep")
    try:
        values = [check_multiplier(float(word)) for word in argument.split()]
    except ValueError:
        raise InputError("/sweep X ...: multipliers, such as 0 0.5 1 2") from None
    values = list(dict.fromkeys(values or _SWEEP))
    arms = [BASELINE, *(Arm.of(circuit, value) for value in values)]
    readings: tuple[float, ...] = ()
    answers: dict[int, ArmResult] = {}
    for event in generate_arms(
        chat.model,
        chat.tokenizer,
        [asked.ids],
        arms,
        max_tokens=min(chat.max_tokens, _SWEEP_TOKENS),
        sampling=asked.sampling,
        gauge=chat.gauge,
    ):
        if isinstance(event, Gauged):
            readings = event.arms
        elif isinstance(event, Answer):
            answers[event.arm] = ArmResult.of(arms[event.arm], event)
    rows = tuple(
        _sweep_row(chat, value, answers[number], readings[number : number + 1])
        for number, value in enumerate(values, 1)
    )
    return Reply(
        f"the last question at {len(values)} multipliers, after the baseline's history",
        is_data=True,
        grid=Grid(("m", "label", "gauge", "quality", "first words"), rows, 1),
    )


def _sweep_row(
    chat: Conversation, value: float, arm: ArmResult, reading: tuple[float, ...]
) -> tuple[str, ...]:
    return (
        f"{value:g}",
        str(arm.label.kind),
        f"{reading[0]:.2f}" if reading else "-",
        f"{arm.quality:.2f}",
        arm.first_words() if chat.hides_text else arm.first_words(_FIRST_WORDS),
    )


def _wanted_circuit(chat: Conversation, command: str) -> Circuit:
    if chat.circuit is None:
        raise InputError(f"{command} needs a circuit: /ablate on, or /circuit FILE")
    return chat.circuit


def _last(chat: Conversation, command: str) -> Asked:
    if not chat.turns or chat.asked is None:
        raise InputError(f"{command} looks at the last answer; ask something first")
    return chat.asked
