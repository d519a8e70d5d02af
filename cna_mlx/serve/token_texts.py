"""Write single tokens, also those that are only a part of a character."""

import codecs
import re
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# How tokenizers that work on bytes write them: printable ones as themselves.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTES = {
    **{chr(byte): byte for byte in _PRINTABLE},
    **{chr(256 + number): byte for number, byte in enumerate(_OTHERS)},
}


class TokenTexts:
    """The texts of single tokens of a tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, tuple[str, bytes | None]] = {}

    def text(self, token: int) -> str:
        """The token's text, with the space that some tokenizers drop at a beginning."""
        return self._of(token)[0]

    def bytes_of(self, token: int) -> bytes | None:
        """The token's UTF-8, which may be a part of a character; None if unknown."""
        return self._of(token)[1]

    def name(self, token: int) -> str:
        """The text, or as OpenAI writes them the bytes, so that no two are confused."""
        text, found = self._of(token)
        if "\ufffd" not in text or found is None:
            return text
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)

    def _of(self, token: int) -> tuple[str, bytes | None]:
        if token not in self._known:
            piece = self._tokenizer.convert_ids_to_tokens(token) or ""
            text = str(self._tokenizer.decode([token]))
            if piece.startswith("\u2581") and not text.startswith(" "):
                text = f" {text}"
            self._known[token] = text, _bytes(text, piece)
        return self._known[token]


def _bytes(text: str, piece: str) -> bytes | None:
    """The bytes of a token, from its text and the way that its tokenizer writes it."""
    if "\ufffd" not in text:
        return text.encode()
    if found := _BYTE.fullmatch(piece):
        return bytes([int(found[1], 16)])
    if piece and all(character in _BYTES for character in piece):
        return bytes(_BYTES[character] for character in piece)
    return None


class Offsets:
    """Where tokens begin in the text that they make up."""

    def __init__(self, texts: TokenTexts) -> None:
        self._texts, self._at = texts, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, token: int) -> int:
        """The place of the next token, in characters."""
        at, found = self._at, self._texts.bytes_of(token)
        self._at += 1 if found is None else len(self._decoder.decode(found))
        return at
