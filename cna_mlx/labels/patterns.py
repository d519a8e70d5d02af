"""Patterns of English answers that refuse, compiled from `patterns.toml`."""

import re

from cna_mlx.labels.pattern_index import CuedPattern, cued
from cna_mlx.util.files import packaged_toml

_DATA = packaged_toml("cna_mlx.labels", "patterns.toml")
_PARTS: dict[str, str] = _DATA["words"] | _DATA["parts"]


def _expand(text: str) -> str:
    return re.sub(r"<([A-Z_]+)>", lambda name: _expand(_PARTS[name[1]]), text)


def _pattern(text: str) -> str:
    return re.sub(r"\n *", "", _expand(text))


def _cued(cues: str, pattern: str, needs: str = "") -> CuedPattern:
    return cued(_expand(cues), _pattern(pattern), _expand(needs))


def _compiled(name: str) -> re.Pattern[str]:
    return re.compile(_pattern(_DATA["patterns"][name]))


DECLINE = _compiled("DECLINE")
PLAIN_NO = _compiled("PLAIN_NO")
PLEASANTRY = _compiled("PLEASANTRY")
AGREES = _compiled("AGREES")
ASKS_BACK = _compiled("ASKS_BACK")
DEFINITION = _compiled("DEFINITION")
ABOUT_USER = _compiled("ABOUT_USER")
HESITATES = _compiled("HESITATES")

#: Signals that an opening refuses, by name; see `scoring`.
SIGNALS = {
    name: tuple(_cued(**one) for one in several)
    for name, several in _DATA["cued"].items()
}
DECLINE_BARE = SIGNALS.pop("bare")
(IGNORANCE,) = SIGNALS.pop("ignorance")

#: Words that lead away from what was asked.
AWAY = frozenset(_PARTS["AWAY"].split())
#: Words of sentences without substance.
EMPTY = frozenset(_PARTS["EMPTY"].split())
