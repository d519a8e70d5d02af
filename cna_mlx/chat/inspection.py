"""The commands that look inside: `/neurons`, `/where`, `/why`, `/sweep`."""

from cna_mlx.chat.conversation import Asked, Conversation, circuit_of
from cna_mlx.chat.reply import Grid, Reply
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.attribution import ablate_each_neuron, promoted_tokens
from cna_mlx.discovery.words import word_gauges
from cna_mlx.errors import InputError
from cna_mlx.provenance import ContrastEntry
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import PromptResult, label_answers
from cna_mlx.steering.events import Gauged
from cna_mlx.steering.first_tokens import first_tokens
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.sequences import shared_length
from cna_mlx.strength import as_typed, parse_strength
from cna_mlx.util.formatting import NO_VALUE, counted, decimal
from cna_mlx.util.sanitize import FIRST_WORDS, first_words

_SWEEP = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_SWEEP_TOKENS = 80
_MOST_SWEPT = 32
_SWEEP_WORDS = 10
_WHY_NEURONS = 64
_NEURONS = 10


def neurons(chat: Conversation, argument: str) -> Reply:
    """`/neurons [N]`: the circuit's first neurons and the tokens that they promote."""
    circuit = _wanted_circuit(chat, "/neurons")
    try:
        count = int(argument or _NEURONS)
    except ValueError:
        count = 0
    if count < 1:
        raise InputError("/neurons N: how many to list, 1 or more")
    rows, model, tokenizer = [], chat.session.model, chat.session.tokenizer
    for number, neuron in enumerate(circuit.neurons[:count]):
        means = [NO_VALUE, NO_VALUE]
        if circuit.moments:
            moments = circuit.moments[number]
            means = [f"{moments.positive_mean:.3f}", f"{moments.negative_mean:.3f}"]
        words = _words(promoted_tokens(model, tokenizer, neuron))
        name = circuit.model.neuron_name(neuron.layer, neuron.index)
        place = (str(neuron.layer), name, f"{neuron.delta:+.3f}")
        rows.append((*place, *means, words))
    layers = ", ".join(
        f"{layer}: {len(members)}" for layer, members in circuit.by_layer().items()
    )
    contrast = circuit.provenance.contrast or ContrastEntry()
    sides = contrast.positive_label or "positive", contrast.negative_label or "negative"
    titles = ("layer", "neuron", "delta", *sides, "promotes")
    return Reply(
        f"{counted(len(circuit.neurons), 'neuron')}; by layer {layers}",
        is_data=True,
        grid=Grid(titles, tuple(rows), 5),
    )


def _words(tokens: tuple[str, ...]) -> str:
    return " ".join(repr(token) for token in tokens)


def where(chat: Conversation, _: str) -> Reply:
    """`/where`: gauge the last question word by word; what its answers begin with."""
    asked = _last(chat, "/where")
    circuit = _wanted_circuit(chat, "/where")
    model, tokenizer = chat.session.model, chat.session.tokenizer
    words = word_gauges(model, tokenizer, circuit, asked.messages, asked.rendering)
    remark = "the first word's gauge also has the earlier turns in it"
    if asked.histories_differed:
        remark += "; all arms are read after the baseline's history"
    return Reply(
        "the last question, with the gauge up to each word",
        is_data=True,
        words=words,
        first=first_tokens(model, tokenizer, asked.ids, chat.arms),
        remark=remark if len(asked.messages) > 1 else "",
    )


def why(chat: Conversation, argument: str) -> Reply:
    """`/why [ARM]`: ablate each neuron alone at the token where the arms diverge."""
    asked = _last(chat, "/why")
    last = chat.turns[-1].result
    if len(last.arms) < 2:
        raise InputError("/why compares two arms: /ablate on, and ask again")
    number = _arm_number(last, argument)
    baseline, steered = (last.arms[n].token_ids for n in (0, number))
    shared = shared_length(baseline, steered)
    if not baseline and not steered:
        return Reply("the answer was stopped before its first token")
    if shared == max(len(baseline), len(steered)):
        return Reply("both answers are identical; nothing was flipped")
    token = baseline[shared] if shared < len(baseline) else last.arms[0].end
    if token is None:
        return Reply("the baseline was cut off before the arms diverged")
    circuit = circuit_of(last.arms[number].arm)
    with chat.session.reporter.progress("neurons") as progress:
        causes = ablate_each_neuron(
            chat.session.model,
            chat.session.tokenizer,
            circuit,
            [*asked.ids, *baseline[:shared]],
            token,
            most=_WHY_NEURONS,
            progress=progress,
        )
    rows = tuple(
        (
            f"{cause.drop:+.3f}",
            str(cause.neuron.layer),
            circuit.model.neuron_name(cause.neuron.layer, cause.neuron.index),
            _words(cause.promotes),
        )
        for cause in causes
    )
    total = len(circuit.neurons)
    first = f"the first {_WHY_NEURONS} of " if total > _WHY_NEURONS else ""
    said = chat.session.tokenizer.decode([token])
    return Reply(
        f"the arms diverge at token {shared + 1}, where the baseline says {said!r}; "
        "drop: how much its log-probability falls with that neuron ablated "
        f"({first}{counted(total, 'neuron')} tried)",
        is_data=True,
        grid=Grid(("drop", "layer", "neuron", "promotes"), rows, 3),
        remark=_OTHER_REASON if asked.histories_differed else "",
    )


_OTHER_REASON = (
    "the arms had different histories before this question, which can also make them "
    "diverge (/clear forgets them, /align makes them the same)"
)


def _arm_number(last: PromptResult, argument: str) -> int:
    """The named arm, or the first whose answer differs."""
    steered = len(last.arms) - 1
    if not argument:
        differing = (n for n in range(1, steered + 1) if last.divergence(n) is not None)
        return next(differing, 1)
    if not (argument.isdecimal() and 1 <= int(argument) <= steered):
        raise InputError(f"/why ARM: which of the {steered} steered arms, from 1")
    return int(argument)


def sweep(chat: Conversation, argument: str) -> Reply:
    """`/sweep [X ...]`: answer the last question at many multipliers, in one batch."""
    asked = _last(chat, "/sweep")
    circuit = _wanted_circuit(chat, "/sweep")
    try:
        values = [parse_strength(word) for word in argument.split()]
    except InputError:
        raise InputError(
            "/sweep X ...: multipliers, such as 0 0.5 1 2, mean or pin=C"
        ) from None
    values = list(dict.fromkeys(values or _SWEEP))
    if len(values) > _MOST_SWEPT:
        raise InputError(f"/sweep takes up to {_MOST_SWEPT} multipliers at a time")
    arms = [BASELINE, *(Arm.of(circuit, value) for value in values)]
    events = generate_arms(
        chat.session.model,
        chat.session.tokenizer,
        [asked.ids],
        arms,
        max_tokens=min(chat.max_tokens, _SWEEP_TOKENS),
        sampling=asked.sampling,
        gauge=chat.gauge,
    )
    gauges: list[float | None] = [None] * len(arms)
    rows = []
    for event in label_answers([""], arms, events):
        if isinstance(event, Gauged):
            gauges = list(event.arms)
        elif isinstance(event, PromptResult):
            length = FIRST_WORDS if chat.hides_text else _SWEEP_WORDS
            rows = [
                (
                    as_typed(arm.arm.strength),
                    str(arm.label.kind),
                    decimal(gauge),
                    decimal(arm.quality),
                    first_words(arm.text, length),
                )
                for arm, gauge in zip(event.arms[1:], gauges[1:], strict=True)
            ]
    return Reply(
        f"the last question at {len(values)} multipliers, after the baseline's history",
        is_data=True,
        grid=Grid(("m", "label", "gauge", "quality", "first words"), tuple(rows), 1),
    )


def _wanted_circuit(chat: Conversation, command: str) -> Circuit:
    if chat.circuit is None:
        raise InputError(f"{command} needs a circuit: /ablate on, or /circuit FILE")
    return chat.circuit


def _last(chat: Conversation, command: str) -> Asked:
    if not chat.turns or chat.asked is None:
        raise InputError(f"{command} looks at the last answer; ask something first")
    return chat.asked
