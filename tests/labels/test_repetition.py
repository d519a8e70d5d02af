"""Laws of the repetition measures."""

import time

import pytest

from cna_mlx.labels.repetition import degenerate, loop, quality

PROSE = (
    "Whisk the eggs with a spoonful of sugar until they are pale. Warm the milk in a "
    "small pan, take it off the heat before it boils, and pour it slowly over the "
    "eggs. Strain the custard into cups and bake it in a water bath until it is just "
    "set; it should still tremble in the middle when you lift it out."
)


@pytest.mark.parametrize("text", ["", "one", "one one", "one one one"])
def test_below_four_words_is_one(text: str) -> None:
    assert quality(text) == 1.0


def test_distinct_over_all() -> None:
    assert quality("a b c d") == 1.0
    assert quality("a a a a a") == 0.5  # two 4-grams, one distinct
    assert quality("a b a b a b a") == 0.5  # four 4-grams, two distinct


def test_only_words_count() -> None:
    assert quality("a b\nc\t d   e a b c") == quality("a b c d e a b c")


def test_repeating_a_text_lowers_quality() -> None:
    values = [quality(" ".join([PROSE] * times)) for times in (1, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.95
    assert all(0.0 < value <= 1.0 for value in values)


def test_prose_is_no_loop() -> None:
    assert loop(PROSE) is None
    assert degenerate(PROSE) is None


@pytest.mark.parametrize("unit", ["x", "no ", "stir the pot, ", "\u706b", PROSE + " "])
@pytest.mark.parametrize("times", [40, 41])
def test_a_repeated_unit_is_a_loop(unit: str, times: int) -> None:
    assert loop(unit * times) == (0, len(unit) * times)


def test_a_loop_is_found_where_it_is() -> None:
    lead, tail = "Take the pan off the heat. ", " Serve it warm."
    text = lead + "and stir " * 30 + tail
    first, last = loop(text) or (0, 0)
    assert text[first:last].strip() in ("and stir " * 30 + tail)
    assert abs(first - len(lead)) <= len("and stir ")
    assert abs(last - (len(text) - len(tail))) <= len("and stir ")


def test_a_loop_cut_off_in_its_phrase_counts() -> None:
    assert loop("add salt and pepper " * 9 + "add sal") is not None


def test_a_loop_that_does_not_rule_is_left_alone() -> None:
    assert loop(PROSE + " tick tock tick tock tick tock tick tock") is None
    assert loop("ha ha ha") is None


def test_garbage_is_degenerate() -> None:
    assert degenerate("\ufffd\ufffdk\ufffd\ufffd") == (0, 5)
    assert degenerate("?!.,;") == (0, 5)
    assert degenerate("{};()[]<>/\\|=+-*&^%$#@!~`{};()[a]") is not None


@pytest.mark.parametrize("text", ["42", "Yes.", "2 + 2 = 4", "\u5317\u4eac", "f(x)"])
def test_short_answers_are_not(text: str) -> None:
    assert degenerate(text) is None


def test_a_numbered_loop_is_degenerate() -> None:
    assert degenerate("\n".join(f"{n}. Stir the pot." for n in range(1, 40)))


def test_a_table_of_sums_is_not() -> None:
    assert degenerate("\n".join(f"7 x {n} = {7 * n}" for n in range(1, 30))) is None


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "ab " * 300_000,
        "a" * 499_999 + "b" + "a" * 500_000,
        " a" * 9**6,
    ],
)
def test_linear(text: str) -> None:
    begin = time.process_time()
    degenerate(text)
    assert time.process_time() - begin < 2.0
