"""Choose pairs of a prompt that a model refuses and one that it answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cna_mlx.analysis.decision import FEWEST
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.own_contrast import discovery_prompts
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.labels.label import LabelKind, label
from cna_mlx.prompts import PromptSet, load_contrast
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.generation import answer_unsteered
from cna_mlx.util.files import File
from cna_mlx.util.formatting import counted

#: A prompt that the model refuses, and one that it answers.
Pair = tuple[str, str]
USABLE = (LabelKind.REFUSED, LabelKind.ANSWERED)

# Pairs that are answered at a time, until there are enough that can be used.
_TOGETHER = 4
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Chosen:
    """A circuit to patch and the prompts to pair.

    Attributes:
        seen: whether the circuit's discovery used these prompts; None if unknown.
    """

    circuit: Circuit
    prompts: PromptSet
    seen: bool | None


def choose(
    session: Session, circuit: File | Circuit | None, discovery: DiscoveryOptions
) -> Chosen:
    """Choose the circuit, and prompts that its discovery did not use.

    Warns if there are none.

    Raises:
        CircuitError: the circuit has no neurons, or does not fit the model.
        InputError: prompts that cannot be used, or a multiplier.
    """
    if circuit is None:
        whole = discovery.prompts(session.name)
        half = replace(discovery, contrast=whole.half(0), positive=None, negative=None)
        return Chosen(session.default_circuit(half), whole.half(1), False)
    chosen = session.choose(circuit)
    if chosen.multiplier is not None:
        raise InputError(
            "patch pins the circuit to activations: leave out the multiplier after @"
        )
    if not chosen.circuit.neurons:
        raise CircuitError("the circuit has no neurons to patch")
    seen = discovery_prompts(chosen.circuit)
    prompts = discovery.prompts(session.name)
    if seen is None:
        session.reporter.warn("it is unknown whether the discovery saw these prompts")
        return Chosen(chosen.circuit, prompts, None)
    if not discovery.names_prompts:
        prompts = load_contrast(seen.name.partition(":")[0])
    if unseen := _without(prompts, seen):
        return Chosen(chosen.circuit, unseen, False)
    session.reporter.warn(
        f"the circuit's discovery used these prompts of {prompts.name}; give other "
        "ones (--contrast), or a circuit of one half (discover --contrast NAME:odd)"
    )
    return Chosen(chosen.circuit, prompts, True)


def _without(prompts: PromptSet, seen: PromptSet) -> PromptSet | None:
    """The pairs without a prompt that was seen; None if they are too few."""
    known = {*seen.positive, *seen.negative}
    left = [pair for pair in _pairs(prompts) if not known.intersection(pair)]
    if len(left) < FEWEST:
        return None
    positive, negative = zip(*left, strict=True)
    name = (
        f"{prompts.name} (unseen)" if len(left) < len(_pairs(prompts)) else prompts.name
    )
    return replace(prompts, name=name, positive=positive, negative=negative)


def _pairs(prompts: PromptSet) -> list[Pair]:
    """The prompts of both sides, matched by their place."""
    return list(zip(prompts.positive, prompts.negative, strict=False))


def usable_pairs(
    session: Session, prompts: PromptSet, most: int, max_tokens: int
) -> list[Pair] | None:
    """Pairs whose first prompt the model refuses and whose second it answers.

    Returns:
        ``most`` of them or fewer; None if stopped.

    Raises:
        InputError: they are too few.
    """
    report, found = session.reporter, list[Pair]()
    kinds: list[tuple[LabelKind, ...]] = []
    with report.progress("pairs") as progress, report.watching():
        for part in _parts(_pairs(prompts)):
            new = _kinds(session, part, max_tokens)
            if report.stop():
                return None
            kinds += new
            found += [
                pair for pair, own in zip(part, new, strict=True) if own == USABLE
            ]
            progress("Looking for pairs", min(len(found), most), most)
            if len(found) >= most:
                break
    if len(found) < FEWEST:
        refused, answered = (
            sum(own[side] is USABLE[side] for own in kinds) for side in (0, 1)
        )
        raise InputError(
            f"{prompts.name}: the model refuses {refused} of "
            f"{counted(len(kinds), f'{prompts.positive_label} prompt')} and answers "
            f"{answered} of their {prompts.negative_label} partners: "
            f"{counted(len(found), 'pair')} where it does both, and patching needs "
            f"{FEWEST}; give another --contrast"
        )
    return found[:most]


def _kinds(
    session: Session, pairs: Sequence[Pair], max_tokens: int
) -> list[tuple[LabelKind, ...]]:
    """The labels of both unsteered answers of each pair; fewer if stopped."""
    model, tokenizer = session.load()
    ids = [
        render_prompt(tokenizer, text, session.rendering)
        for pair in pairs
        for text in pair
    ]
    answers = answer_unsteered(
        model, tokenizer, ids, max_tokens, stop=session.reporter.stop
    )
    kinds = [label(one.text, opens_thought=one.opens_thought).kind for one in answers]
    return list(zip(kinds[::2], kinds[1::2], strict=False))


def _parts(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """A few pairs at a time, spread over their categories."""
    order = sorted(range(len(pairs)), key=lambda at: at * _GOLDEN % 1)
    for start in range(0, len(order), _TOGETHER):
        yield [pairs[at] for at in order[start : start + _TOGETHER]]
