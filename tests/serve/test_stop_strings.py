"""Nothing of a stop string is passed on, and nothing else is held back for long."""

import random

import pytest

from cna_mlx.serve.stop_strings import StopStrings


def passed(stops: list[str], parts: list[str]) -> tuple[str, bool]:
    """What comes through of a text in these parts, and whether it was stopped."""
    one, found = StopStrings(stops), ""
    for part in parts:
        text, is_stopped = one.take(part)
        found += text
        if is_stopped:
            return found, True
    return found + one.rest(), False


@pytest.mark.parametrize(
    ("stops", "text", "expected"),
    [
        ([], "a text", "a text"),
        (["xt"], "a text", "a te"),
        (["x", "e"], "a text", "a t"),
        (["\n\n"], "one\ntwo\n\nthree", "one\ntwo"),
        (["aab"], "aaaab", "aa"),
        (["abc"], "ab", "ab"),
        (["é!"], "café!", "caf"),
    ],
)
def test_a_text_ends_at_the_first_stop(
    stops: list[str], text: str, expected: str
) -> None:
    for parts in ([text], list(text), [text[:3], text[3:]]):
        assert passed(stops, parts) == (expected, expected != text)


def test_any_cut_of_a_text_gives_the_same() -> None:
    draw = random.Random(1)
    for _ in range(2000):
        text = "".join(draw.choices("ab ", k=draw.randrange(1, 14)))
        stops = ["".join(draw.choices("ab ", k=draw.randrange(1, 4))) for _ in range(2)]
        cuts = sorted(draw.choices(range(len(text) + 1), k=3))
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        expected = text, False
        for end in range(len(text) + 1):  # the stop that is whole first
            whole = [stop for stop in stops if text[:end].endswith(stop)]
            if whole:
                expected = text[: end - max(map(len, whole))], True
                break
        assert passed(stops, parts) == expected


def test_only_what_a_stop_may_begin_with_is_held_back() -> None:
    one = StopStrings(["END"])
    assert one.take("a text E") == ("a text ", False)
    assert one.take("x") == ("Ex", False)
    assert one.take("EN") == ("", False)
    assert one.rest() == "EN"
