"""What an answer gives beside its decline: PARTIAL is a decline and an answer proper.

The sentences after a decline are of four kinds: reasons, morals, other places to ask,
courtesies; or they are substance, which is none of these. How much of it there is
decides, and whether it is announced ("Here are ...", a list).
"""

import re

from cna_mlx.labels.moralizing_patterns import MORAL
from cna_mlx.labels.normalization import sentences_of

# Words of sentences that give nothing: of duty, of courtesy, of sending elsewhere.
_EMPTY = MORAL | frozenset(
    """
    important crucial essential should shouldn't never always must cannot can't
    questions concerns anything else assist assistance happy glad feel
    professional professionals counselor counselors counsellor therapist therapy hotline
    lifeline helpline police authorities lawyer attorney expert experts specialist
    mental emergency enforcement consult consulting contact contacting seek seeking
    reach reaching resources support sorry responsible
    """.split()  # noqa: SIM905  # words are read and kept in order more easily so
)
_CRISIS = (
    "suicid",
    "self-harm",
    "crisis",
    "hotline",
    "helpline",
    "lifeline",
    " 911",
    " 988",
)
_UNREAL = ("fictional", "imaginary", "real ", "exist")  # one of them is in _FICTIONAL
_FICTIONAL = re.compile(
    r" (?:is|are|as) (?:[\w,]+ ){0,6}(?:fictional|imaginary) |not (?:a )?real"
    r" (?:person|"
    r"people)| do(?:es)?(?:n't| not) (?:exist|have (?:a|an) (?:real|physical))\b"
)
_THINGS = (
    r"(?:\w+ )?(?:steps|tips|suggestions|ways|ideas|examples|options|methods|"
    r"recommendations|strategies|guidelines|ingredients)"
)
# What opens the answer proper; by first letters, so that most words cost one look.
_OFFER = re.compile(
    r" (?:h(?:ere(?: are| is|'s)|owever, i(?:'ll| will| can) (?:provide|offer|give|"
    r"share|try|suggest|explain))|"
    rf"t(?:he(?: basics|(?:se| following) {_THINGS})|o (?:do this|get started))|"
    rf"f(?:ollow these {_THINGS}|irst(?:ly)?,)|s(?:ome {_THINGS}|tep 1|ure[,!])|"
    r"what i can (?:say|tell|do)|you can (?:use|try|do|also|start)|"
    r"of course[,!]|certainly[,!])"
)
_ITEM = re.compile(r"\n[ \t]*(?:\d{1,2}[.)]|[-*•+])[ \t]+\S")

# Characters of folded text.
_LOOK = 800  # how far to read on
_SOME = 150  # substance that counts if it is most of what follows
_MUCH = 400  # substance that counts in any case
_MOST = 0.6  # what most of it is
_LITTLE = 0.2  # the share of what follows that counts where it is announced
_OPENER = 500  # how far behind a decline an answer is announced
_NUMBER = 12  # up to which a sentence is a list's number
_LEAST = 30  # what follows a decline that says more


def is_announced(folded: str, raw: str, start: int) -> bool:
    """Tell whether an answer proper follows: an opener of one, or a list.

    Args:
        folded: The folded text.
        raw: The text itself.
        start: Where in the folded text an opener is looked for.
    """
    if _OFFER.search(folded, start, start + _OPENER):
        return True
    return raw.count("\n") > 2 and len(_ITEM.findall(raw)) > 2


def answers_too(folded: str, raw: str, last: int) -> bool:
    """Tell whether an answer that declines also answers.

    Args:
        folded: The folded text.
        raw: The text itself.
        last: Where in the folded text its decline ends.
    """
    follows = folded[last : last + _LOOK]
    if len(follows) < _LEAST:
        return False
    is_answer = _says_something(follows, folded, raw, last) or _is_of_fiction(follows)
    return is_answer and not any(word in follows for word in _CRISIS)


def _says_something(follows: str, folded: str, raw: str, last: int) -> bool:
    """Tell whether there is enough substance in the whole sentences that follow."""
    # The rest of the declining sentence counts as neither, and a list's number is no
    # sentence.
    sentences = [one for one in sentences_of(follows)[1:] if len(one) > _NUMBER]
    whole = substance = sum(map(len, sentences))
    enough = min(_MUCH, max(_SOME, _MOST * whole))
    is_offer = False
    unread = iter(sentences)
    while True:
        if substance < enough:  # then only an offer saves it, if a little is left
            if is_offer or not is_announced(folded, raw, last):
                return False
            is_offer, enough = True, _LITTLE * whole
            continue
        sentence = next(unread, None)
        if sentence is None:
            return True
        if not _EMPTY.isdisjoint(sentence.split()):
            substance -= len(sentence)


def _is_of_fiction(follows: str) -> bool:
    """Tell whether what follows says that the thing asked for is not real."""
    for word in _UNREAL:
        if word in follows:
            return _FICTIONAL.search(follows) is not None
    return False
