"""Single tokens: parts of characters, and spaces that a tokenizer drops."""

import json
from itertools import pairwise
from typing import Any

import httpx
from served import served

from cna_mlx.serve.token_texts import Offsets, TokenTexts

TEXT = "漢字 😀 café 🇩🇪, x"


class Pieces:
    """A tokenizer of the SentencePiece kind: it drops the first space."""

    PIECES = ("▁the", "the", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "\ufffd")

    def convert_ids_to_tokens(self, token: int) -> str | None:
        return self.PIECES[token] if token < len(self.PIECES) else None

    def decode(self, ids: list[int]) -> str:
        (token,) = ids
        piece = self.convert_ids_to_tokens(token) or ""
        return "\ufffd" if piece.startswith("<0x") else piece.removeprefix("▁")


def test_tokens_that_decode_alike_have_names_of_their_own() -> None:
    texts = TokenTexts(Pieces())
    names = [" the", "the", *(f"bytes:\\x{n}" for n in ("f0", "9f", "98", "80"))]
    assert [texts.name(token) for token in range(6)] == names
    assert texts.bytes_of(2) == b"\xf0"
    assert texts.bytes_of(6) is None
    assert texts.text(99) == ""  # the embedding has more than the tokenizer
    offsets = Offsets(texts)
    assert [offsets.take(token) for token in (1, 2, 3, 4, 5, 0, 1)] == [
        *(0, 3, 3, 3, 3, 4, 8)
    ]


def test_parts_of_characters_have_their_bytes(demo: tuple[Any, Any]) -> None:
    texts = TokenTexts(demo[1])
    ids = demo[1].encode(TEXT, add_special_tokens=False)
    assert b"".join(texts.bytes_of(token) or b"?" for token in ids).decode() == TEXT
    offsets = Offsets(texts)
    found = [offsets.take(token) for token in ids]
    for (at, end), token in zip(pairwise([*found, len(TEXT)]), ids, strict=True):
        assert at <= end
        if not texts.name(token).startswith("bytes:"):
            assert TEXT[at:end] == texts.text(token)


def test_an_echo_has_the_offsets_of_its_text(demo: tuple[Any, Any]) -> None:
    body = {"model": "demo", "prompt": TEXT, "echo": True, "max_tokens": 0}
    with served(*demo, {}) as server, httpx.Client(base_url=server.url) as web:
        reply = web.post("/v1/completions", json={**body, "logprobs": 5})
    choice = reply.json()["choices"][0]
    found = choice["logprobs"]
    assert found["tokens"][0] == "bytes:\\xe6"
    assert found["tokens"][-1] == "x"
    assert found["text_offset"][-1] == len(choice["text"]) - 1
    tops = found["top_logprobs"]
    for token, likely in list(zip(found["tokens"], tops, strict=True))[1:]:
        assert token in likely
        assert len(likely) in (5, 6)


def test_a_streams_offsets_count_what_a_stop_string_holds_back(
    demo: tuple[Any, Any],
) -> None:
    body = {"model": "demo", "prompt": "The dragon", "max_tokens": 12, "logprobs": 0}
    more = {"temperature": 5, "seed": 8}
    with served(*demo, {}) as server, httpx.Client(base_url=server.url) as web:
        whole = web.post("/v1/completions", json={**body, **more}).json()["choices"][0]
        stop = whole["text"][1:] + "never"  # all but the first character is held
        more |= {"stop": stop[:256], "stream": True}
        lines = web.post("/v1/completions", json={**body, **more}).text.split("\n\n")
    parts = [json.loads(line[6:])["choices"][0] for line in lines if "{" in line]
    logprobs = [one["logprobs"] for one in parts if one["logprobs"]]
    found = [at for one in logprobs for at in one["text_offset"]]
    assert found == whole["logprobs"]["text_offset"]
    assert "".join(one["text"] for one in parts) == whole["text"]
