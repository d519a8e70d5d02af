"""Several arms in a chat; its settings; what it writes and takes up again."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from chats import ask, texts
from commandline import make_screen, plain, sent
from texts import missing

from cna_mlx import Arm, Circuit, render
from cna_mlx.chat import commands
from cna_mlx.chat.commands import run_command
from cna_mlx.chat.conversation import Conversation
from cna_mlx.chat.conversation import circuit_of as arm_circuit
from cna_mlx.chat.settings import SETTINGS
from cna_mlx.chat.transcripts import as_json
from cna_mlx.discovery.attribution import promoted_tokens
from cna_mlx.discovery.gauge import gauges
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.search.cached import SearchInterrupted
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.first_tokens import first_tokens
from cna_mlx.strength import Pin, arm_label
from cna_mlx.ui.chat import run_chat
from cna_mlx.ui.tables import grid_view
from cna_mlx.util.formatting import counted
from cna_mlx.util.sanitize import first_words, visible

Make = Callable[..., Conversation]


@pytest.fixture
def circuit(circuit_text: str) -> Circuit:
    return Circuit.from_text(circuit_text, "here")


@pytest.fixture
def make(tiny: tuple[Any, Any], circuit: Circuit) -> Make:
    def conversation(*multipliers: float, **options: Any) -> Conversation:
        arms = [
            Arm.of(
                circuit, m, "ablated" if len(multipliers) == 1 else f"c {arm_label(m)}"
            )
            for m in multipliers
        ]
        known = {"is_ablating": bool(arms), "max_tokens": 8}
        find = options.pop("find_circuit", None)
        made = Conversation(Session.of(*tiny), arms, **{**known, **options})
        if find:
            made.find_circuit = find
        return made

    return conversation


# ----------------------------------------------------------------- several arms


def test_each_of_four_arms_says_what_it_says_beside_the_baseline(make: Make) -> None:
    turn = ask(make(0.0, 0.5, 2.0))
    assert [arm.multiplier for arm in turn.result.arms] == [1, 0, 0.5, 2]
    assert len(set(texts(turn))) > 2  # or nothing here says anything
    for multiplier, text in zip((0.0, 0.5, 2.0), texts(turn)[1:], strict=True):
        assert texts(ask(make(multiplier))) == [texts(turn)[0], text]


def test_another_multiplier_for_one_of_several_keeps_every_history(make: Make) -> None:
    conversation = make(0.0, 2.0)
    ask(conversation)
    before = {k: list(v) for k, v in conversation.histories.items()}
    assert "c m=0.5" in run_command(conversation, "/multiplier 0.5 2").text
    assert [arm.label for arm in conversation.steered] == ["c ablated", "c m=0.5"]
    assert conversation.histories["c m=0.5"] == before["c m=2"]
    assert conversation.histories["c ablated"] == before["c ablated"]
    turn = ask(conversation, "two blue birds")
    assert [arm.multiplier for arm in turn.result.arms] == [1, 0, 0.5]


@pytest.mark.parametrize(
    "line",
    ["/multiplier 1", "/multiplier 1 0", "/multiplier 1 3", "/multiplier 1 -1"],
)
def test_which_of_several_arms_has_to_be_said(line: str, make: Make) -> None:
    conversation = make(0.0, 2.0)
    before = list(conversation.steered)
    with pytest.raises(InputError, match="2 steered arms"):
        run_command(conversation, line)
    assert conversation.steered == before


def test_two_arms_cannot_become_one(make: Make) -> None:
    conversation = make(0.0, 2.0)
    with pytest.raises(InputError, match="already"):
        run_command(conversation, "/multiplier 2 1")
    assert [arm.label for arm in conversation.steered] == ["c ablated", "c m=2"]


def test_why_takes_the_arm_that_differs_or_the_one_that_is_named(make: Make) -> None:
    conversation = make(1.0, 0.0)
    turn = ask(conversation)
    assert texts(turn)[0] == texts(turn)[1] != texts(turn)[2]
    assert run_command(conversation, "/why").grid is not None
    assert run_command(conversation, "/why 1").grid is None
    assert run_command(conversation, "/why 2").grid is not None
    for wrong in ("/why 0", "/why 3", "/why x"):
        with pytest.raises(InputError, match="2 steered arms"):
            run_command(conversation, wrong)


def test_where_gauges_the_last_question_after_the_baselines_history(
    make: Make, tiny: tuple[Any, Any]
) -> None:
    model, tokenizer = tiny
    conversation = make(0.0, 2.0)
    with pytest.raises(InputError, match="ask something first"):
        run_command(conversation, "/where")
    ask(conversation)
    assert not run_command(conversation, "/where").remark
    history = list(conversation.histories["baseline"])
    ask(conversation, "two blue birds")
    asked = conversation.rendering
    run_command(conversation, "/system Be brief.")  # of the next question only
    reply = run_command(conversation, "/where")
    question = {"role": "user", "content": "two blue birds"}
    ids = render(tokenizer, [*history, question], asked)
    (whole,) = gauges(model, conversation.circuit, [ids])
    assert [word.text for word in reply.words] == ["two", " blue", " birds"]
    assert reply.words[-1].gauge == pytest.approx(whole, abs=1e-4)
    expected = first_tokens(model, tokenizer, ids, conversation.arms)
    assert reply.first == expected
    assert reply.first.arms == ("baseline", "c ablated", "c m=2")
    assert "earlier turns" in reply.remark
    assert "baseline's history" in reply.remark
    without = make()
    ask(without)
    with pytest.raises(InputError, match="/where needs a circuit"):
        run_command(without, "/where")


def test_views_of_several_arms(make: Make) -> None:
    conversation = make(0.0, 2.0)
    out = {}
    for view in ("both", "baseline", "ablated"):
        screen = make_screen(terminal=False)
        run_chat(screen, conversation, io.StringIO(f"/view {view}\n/clear\none\n"))
        said = sent(screen.out)
        out[view] = [
            name for name in ("baseline  ", "ablated  ", "m=2  ") if name in said
        ]
    assert out == {
        "both": ["baseline  ", "ablated  ", "m=2  "],
        "baseline": ["baseline  "],
        "ablated": ["ablated  ", "m=2  "],
    }


def test_align_makes_the_arms_go_on_from_the_baseline(make: Make) -> None:
    conversation = make(0.0)
    with pytest.raises(InputError, match="/ablate on"):
        run_command(make(), "/align")
    assert "already" in run_command(conversation, "/align").text
    first = ask(conversation)
    assert conversation.histories_differ
    run_command(conversation, "/align")
    assert not conversation.histories_differ
    assert conversation.histories["ablated"][1]["content"] == texts(first)[0]
    aligned = ask(conversation, "two blue birds")
    # what the steered arm says to the baseline's history, with no cache to go by
    fresh = make(0.0)
    history = conversation.histories[BASELINE.label][:2]
    fresh.histories = {BASELINE.label: list(history), "ablated": list(history)}
    assert texts(ask(fresh, "two blue birds")) == texts(aligned)
    assert conversation.asked is not None
    assert not conversation.asked.histories_differed


def test_contrast_takes_the_place_of_the_circuit(make: Make, circuit: Circuit) -> None:
    asked: list[str | None] = []

    def find(contrast: str | None = None) -> Circuit:
        asked.append(contrast)
        return circuit.strongest(3)

    conversation = make(0.5, find_circuit=find)
    assert "(3 neurons)" in run_command(conversation, "/contrast refusal-small").text
    assert asked == ["refusal-small"]
    assert conversation.circuit == circuit.strongest(3)
    assert conversation.steered[0].steering[0][1] == 0.5
    for wrong in ("/contrast", "/contrast nonsense"):
        with pytest.raises(InputError, match="refusal"):
            run_command(conversation, wrong)
    assert conversation.circuit == circuit.strongest(3)


# --------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("/set temp 0.7", "temperature", 0.7),
        ("/set seed 12", "seed", 12),
        ("/set max-tokens 3", "max_tokens", 3),
        ("/set view ablated", "view", "ablated"),
        ("/set hide-text on", "hides_text", True),
        ("/set multiplier 0.25", "multiplier", 0.25),
    ],
)
def test_settings_are_set_and_shown(
    line: str, name: str, value: Any, make: Make
) -> None:
    conversation = make(0.0)
    reply = run_command(conversation, line)
    assert getattr(conversation, name) == value
    shown = line.split()[-1]
    assert reply.text == f"{line.split()[1]} is {shown}"
    grid = run_command(conversation, "/set").grid
    assert grid is not None
    assert dict(grid.rows)[line.split()[1]] == shown


def test_the_rendering_is_set(make: Make) -> None:
    conversation = make(0.0)
    run_command(conversation, "/set system Only speak of stones.")
    run_command(conversation, "/set thinking on")
    assert conversation.rendering.system == "Only speak of stones."
    assert conversation.rendering.thinking
    run_command(conversation, "/set system none")
    assert conversation.rendering.system is None


def test_max_tokens_holds_for_the_next_answer(make: Make) -> None:
    conversation = make(0.0)
    run_command(conversation, "/set max-tokens 2")
    assert [len(arm.token_ids) for arm in ask(conversation).result.arms] == [2, 2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/set tmp 1", "temp"),
        ("/set temp hot", "0 (greedy)"),
        ("/set temp -1", "0 (greedy)"),
        ("/set temp nan", "0 (greedy)"),
        ("/set temp inf", "0 (greedy)"),
        ("/set seed 1.5", "whole number"),
        ("/set seed -1", "whole number"),
        ("/set max-tokens 0", "1 or more"),
        ("/set thinking perhaps", "on or off"),
        ("/set hide-text yes", "on or off"),
        ("/set view all", "both|baseline|ablated"),
        ("/set multiplier nan", "0 ablates"),
        ("/set multiplier much", "0 ablates"),
        ("/neurons no", "/neurons N"),
        ("/neurons 0", "/neurons N"),
        ("/load", "/load FILE"),
        ("/export", "/export FILE"),
        ("/export x.pdf", ".svg, .html or .md"),
    ],
)
def test_settings_that_cannot_be(line: str, said: str, make: Make) -> None:
    conversation = make(0.0)
    before = as_json(conversation)
    with pytest.raises(InputError) as caught:
        run_command(conversation, line)
    assert said in str(caught.value)
    assert as_json(conversation) == before


def test_a_setting_without_a_value_is_told(make: Make) -> None:
    for name in SETTINGS:
        assert run_command(make(0.0), f"/set {name}").text.startswith(f"{name} is ")


def test_show_tells_where_the_chat_stands(make: Make) -> None:
    conversation = make(0.0, 2.0)
    ask(conversation)
    grid = run_command(conversation, "/show").grid
    assert grid is not None
    rows = dict(grid.rows)
    assert rows["arms"] == "baseline, c ablated, c m=2"
    assert rows["circuit"].startswith("32 neurons")
    assert "1 turn" in rows["context"]
    assert set(SETTINGS) <= set(rows)
    empty = run_command(make(), "/show").grid
    assert empty is not None
    assert "none yet" in dict(empty.rows)["circuit"]


def test_neurons_are_those_of_the_circuit(
    make: Make, circuit: Circuit, tiny: tuple[Any, Any]
) -> None:
    grid = run_command(make(0.0), "/neurons 4").grid
    assert grid is not None
    assert len(grid.rows) == 4
    for row, neuron in zip(grid.rows, circuit.neurons, strict=False):
        assert [int(row[0]), int(row[1])] == [neuron.layer, neuron.index]
        assert float(row[2]) == pytest.approx(neuron.delta, abs=6e-4)
        words = " ".join(repr(word) for word in promoted_tokens(*tiny, neuron))
        assert row[-1] == words
    with pytest.raises(InputError, match="needs a circuit"):
        run_command(make(), "/neurons")


# ------------------------------------------------------------------------ files


def test_a_loaded_conversation_goes_on_as_if_never_left(
    make: Make, tmp_path: Path
) -> None:
    path = tmp_path / "chat.json"
    conversation = make(0.0, 2.0, temperature=0.8, seed=5)
    run_command(conversation, "/system Speak of stones.")
    ask(conversation)
    ask(conversation, "two blue birds")
    run_command(conversation, f"/save {path}")
    other = make(max_tokens=3)
    ask(other, "what was said before is gone")
    assert "2 turns" in run_command(other, f"/load {path}").text
    assert other.histories == conversation.histories
    assert [turn.result.prompt for turn in other.turns] == [
        "one red stone",
        "two blue birds",
    ]
    assert texts(other.turns[1]) == texts(conversation.turns[1])
    assert json.loads(as_json(other)) == json.loads(as_json(conversation))
    expected = texts(ask(conversation, "three red doors"))
    assert texts(ask(other, "three red doors")) == expected


def test_an_arm_of_another_multiplier_is_told_as_it_was(
    make: Make, tmp_path: Path
) -> None:
    path = tmp_path / "chat.json"
    conversation = make(0.5)
    ask(conversation)
    run_command(conversation, "/multiplier 2")
    run_command(conversation, f"/save {path}")
    other = make()
    run_command(other, f"/load {path}")
    assert [arm.multiplier for arm in other.turns[0].result.arms] == [1, 0.5]
    assert other.steered[0].steering[0][1] == 2


def test_pins_in_a_chat(make: Make, circuit_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    conversation = make(0.0)
    scaled = texts(ask(conversation))
    assert "pinned to 40" in run_command(conversation, "/multiplier pin=40").text
    ask(conversation)
    conversation.clear()
    assert texts(ask(conversation)) != scaled
    assert run_command(conversation, "/set multiplier mean").text.endswith("is mean")
    assert conversation.arms[1].title == "mean"
    again = run_command(conversation, f"/circuit {circuit_file}@pin=0.25")
    assert "pinned to 0.25" in again.text
    ask(conversation)
    rows = run_command(conversation, "/sweep 0 mean pin=1").grid
    assert rows
    assert [row[0] for row in rows.rows] == ["0", "mean", "pin=1"]
    assert float(rows.rows[1][2]) == pytest.approx(0, abs=0.005)  # benign, by its means
    run_command(conversation, f"/save {path}")
    other = make()
    run_command(other, f"/load {path}")
    assert json.loads(as_json(other)) == json.loads(as_json(conversation))
    assert json.loads(as_json(other))["schema_version"] == 2
    assert json.loads(as_json(make(0.5)))["schema_version"] == 1
    assert other.multiplier == Pin(0.25)
    assert texts(ask(other)) == texts(ask(conversation))


def test_a_pin_that_cannot_be_changes_nothing(make: Make, tmp_path: Path) -> None:
    conversation, path = make(0.5), tmp_path / "bare.json"
    Circuit.from_neurons([(0, 1)]).save(path)
    before = conversation.steered
    for line in ("/multiplier mean=1", "/multiplier pin=", "/set multiplier pin=nan"):
        with pytest.raises(InputError, match="mean or pin=C"):
            run_command(conversation, line)
    for line in (f"/circuit {path}@mean", f"/circuit {path}@pin", "/multiplier pin"):
        with pytest.raises(CircuitError, match=r"no mean|no constants"):
            run_command(conversation, line)
    assert conversation.steered == before
    assert conversation.multiplier == 0.5


def test_a_circuit_is_steered_as_its_file_says(
    make: Make, circuit: Circuit, tmp_path: Path
) -> None:
    path, conversation = tmp_path / "c.json", make()
    replace(circuit, intervention=Pin(0.5)).save(path)
    run_command(conversation, f"/circuit {path}")
    assert conversation.multiplier == Pin(0.5)
    run_command(conversation, f"/circuit {path}@0.25")
    assert conversation.multiplier == 0.25


def _saved(make: Make) -> dict[str, Any]:
    conversation = make(0.0)
    ask(conversation)
    return json.loads(as_json(conversation))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("kind"),
        lambda data: data.update(kind="cna-mlx circuit"),
        lambda data: data.update(schema_version=99),
        lambda data: data.pop("arms"),
        lambda data: data["arms"][0].update(multiplier="much"),
        lambda data: data["arms"][0].update(multiplier=float("inf")),
        lambda data: data["arms"][0]["circuit"].pop("neurons"),
        lambda data: data.update(arms=data["arms"] * 4),
        lambda data: data.update(histories=[1]),
        lambda data: data["histories"].update(baseline=[{"role": "user"}]),
        lambda data: data["turns"][0].pop("prompt"),
        lambda data: data["turns"][0]["arms"][0].update(finish="never"),
        lambda data: data["turns"][0]["arms"][0].update(token_ids="abc"),
        lambda data: data["rendering"].update(date="yesterday"),
        lambda data: data.update(temperature=None),
        lambda data: data.update(seed="[" * 10),
    ],
)
def test_a_damaged_conversation_changes_nothing(
    damage: Callable[[dict[str, Any]], Any], make: Make, tmp_path: Path
) -> None:
    data = _saved(make)
    damage(data)
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    conversation = make(2.0)
    ask(conversation, "two blue birds")
    before = as_json(conversation)
    with pytest.raises((InputError, CircuitError)) as caught:
        run_command(conversation, f"/load {path}")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert as_json(conversation) == before


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("temperature", -1, "temp -1: it takes 0 (greedy)"),
        ("temperature", "hot", "temp hot: it takes 0"),
        ("seed", 2**40, f"seed {2**40}: it takes a whole number"),
        ("max_tokens", 0, "max-tokens 0: it takes a whole number, 1 or more"),
        ("top_p", 1.5, "top-p 1.5: it takes a number above 0"),
        ("top_k", -3, "top-k -3: it takes a whole number"),
        ("min_p", 2, "min-p 2: it takes a number from 0 to 1"),
        ("dropped_turns", -1, "dropped_turns -1: it takes a whole number"),
        ("dropped_turns", "few", "dropped_turns few: it takes a whole number"),
        ("multiplier", "much", "multiplier much: it takes a finite number"),
    ],
)
def test_a_setting_of_a_conversation_that_cannot_be_is_named(
    key: str, value: Any, said: str, make: Make, tmp_path: Path
) -> None:
    data = _saved(make)
    (data["arms"][0] if key == "multiplier" else data)[key] = value
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        run_command(make(), f"/load {path}")
    assert missing(str(caught.value), str(path), said) == []


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "[" * 100_000, "\udcff"])
def test_what_is_no_conversation_is_refused(
    text: str, make: Make, tmp_path: Path
) -> None:
    path = tmp_path / "chat.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="/save wrote"):
        run_command(make(), f"/load {path}")
    with pytest.raises(InputError, match="cannot be read"):
        run_command(make(), f"/load {tmp_path / 'none.json'}")
    with pytest.raises(InputError, match="cannot be read"):
        run_command(make(), f"/load {tmp_path}")


def test_a_circuit_of_another_model_is_not_taken_over(
    make: Make, tmp_path: Path
) -> None:
    data = _saved(make)
    data["arms"][0]["circuit"]["neurons"][0][1] = 10**6
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    conversation = make()
    with pytest.raises(CircuitError):
        run_command(conversation, f"/load {path}")
    assert conversation.steered == []


def test_a_conversation_with_another_model_says_so(make: Make, tmp_path: Path) -> None:
    data = _saved(make)
    data.update(fingerprint="other", model="somebody/else")
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    reply = run_command(make(), f"/load {path}")
    assert "somebody/else" in str(reply.remark)


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("suffix", [".svg", ".html", ".md"])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_conversation_is_drawn(
    suffix: str, hidden: bool, make: Make, tmp_path: Path
) -> None:
    conversation = make(0.0, max_tokens=30, hides_text=hidden)
    path = tmp_path / f"chat <b>{suffix}"
    screen = make_screen(terminal=False)
    lines = f"one red & <b>stone</b>, and a bird, and no more\n/export {path}\n"
    run_chat(screen, conversation, io.StringIO(lines))
    assert "wrote 1 turn" in sent(screen.err)
    text = path.read_text(encoding="utf-8")
    if suffix == ".svg":
        text = "".join(ElementTree.fromstring(text).itertext())
    elif suffix == ".html":
        page = _Words()
        page.feed(text)
        text = page.text
        assert page.tags.isdisjoint({"script", "link", "img", "b", "iframe"})
    text = text.replace("\u00a0", " ")
    assert "http" not in text
    if suffix != ".md":
        assert "gauge" in text
    assert "<b>stone</b>," in text
    if suffix != ".md":
        assert ("and no more" in text) is not hidden
    for arm in conversation.turns[0].result.arms:
        assert str(arm.label.kind) in text
        last = arm.text.split()[-1]
        if last.isascii() and last not in " ".join(arm.text.split()[:-1]):
            assert (last in text) is not hidden


def test_nothing_is_drawn_of_nothing(make: Make, tmp_path: Path) -> None:
    screen = make_screen(terminal=False)
    run_chat(screen, make(0.0), io.StringIO(f"/export {tmp_path / 'x.svg'}\n"))
    assert "ask something first" in sent(screen.err)
    run_chat(screen, make(0.0), io.StringIO("one\n/export /nowhere/x.svg\n"))
    assert "cannot be written" in sent(screen.err)


# ------------------------------------------------------------------ hidden text


def test_first_words_are_few_in_any_language() -> None:
    assert first_words("") == ""
    assert first_words("one  two\nthree four") == "one two three four"
    assert first_words("one two three four five") == "one two three four ..."
    assert first_words("\u4e00" * 200) == "\u4e00" * 60 + " ..."


def _ends(screen: Any, conversation: Conversation) -> list[bool]:
    """Whether the end of each arm's last answer was shown."""
    shown = plain(sent(screen.out))
    arms = conversation.turns[-1].result.arms
    return [visible(arm.text.split()[-1]) in shown for arm in arms]


@pytest.mark.parametrize("terminal", [False, True])
def test_hidden_answers_show_their_first_words_only(terminal: bool, make: Make) -> None:
    conversation = make(0.0, max_tokens=40)
    open_screen = make_screen(200, terminal=terminal, color=False)
    run_chat(open_screen, conversation, io.StringIO("one red stone\n"))
    hidden = make(0.0, max_tokens=40, hides_text=True)
    screen = make_screen(200, terminal=terminal, color=False)
    run_chat(screen, hidden, io.StringIO("one red stone\n"))
    out = sent(screen.out)
    for arm in hidden.turns[0].result.arms:
        assert first_words(arm.text).endswith(" ...")  # or there is nothing to hide
        assert str(arm.label.kind) in out
        assert f"({len(arm.token_ids)} tokens)" in out
    assert _ends(open_screen, hidden) == [True, True]
    assert _ends(screen, hidden) == [False, False]
    assert re.search(r"diverges at token \d", out)
    assert "gauge" in out


# -------------------------------------------------------------- the command line


def test_hidden_text_of_a_diff(
    command: Callable[..., Any], circuit_file: Path, tmp_path: Path
) -> None:
    from commandline import TINY

    options = ("--circuit", str(circuit_file), "-p", "one red stone is here and there")
    whole = command("diff", TINY, *options, "--json").data["results"][0]
    done = command("diff", TINY, *options, "--json", "--hide-text")
    for shown, arm in zip(done.data["results"][0]["arms"], whole["arms"], strict=True):
        assert shown["text"] == first_words(arm["text"])
        assert shown["text"].endswith(" ...")
        assert shown["token_ids"] == []
        assert shown["span"] is None
        assert shown["tokens"] == arm["tokens"] > 8
        assert shown["label"] == arm["label"]
    picture = tmp_path / "x.svg"
    out = command("diff", TINY, *options, "--hide-text", "--svg", str(picture)).out
    assert "one red stone is ...\n" in out
    assert "tokens)" in out
    drawn = "".join(ElementTree.fromstring(picture.read_text()).itertext())
    last = whole["arms"][0]["text"].split()[-1]
    assert last not in out
    assert last not in drawn


def test_a_diff_says_what_to_try_where_every_arm_refuses(
    command: Callable[..., Any], circuit_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from commandline import TINY

    from cna_mlx.labels.label import Label, LabelKind

    options = ("--circuit", str(circuit_file), "-p", "one", "-p", "two")
    assert "2 of 2" not in command("diff", TINY, *options).err
    refused = Label(LabelKind.REFUSED, (0, 1))
    monkeypatch.setattr("cna_mlx.steering.diff.label", lambda text, **_: refused)
    assert "2 of 2" in command("diff", TINY, *options).err


@pytest.mark.parametrize("is_whole", [True, False])
def test_search_steers_with_the_circuit_that_was_found(
    is_whole: bool,
    make: Make,
    circuit: Circuit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "found.json"
    replace(circuit, intervention=Pin(2.0)).save(file)
    asked: list[Any] = []

    def searched(session: Session, discovery: Any, shown: Any) -> str:
        asked.extend((session.rendering, discovery, shown))
        if not is_whole:
            raise SearchInterrupted(str(file))
        return str(file)

    monkeypatch.setattr(commands, "searched_circuit", searched)
    conversation = make()
    conversation.rendering = replace(conversation.rendering, system="Be brief.")
    said = run_command(conversation, "/search").text
    count = len(circuit.neurons)
    assert said == f"{count} neurons from {file}, pinned to 2"
    assert conversation.is_ablating
    assert conversation.steered[0].strength == Pin(2.0)
    wanted = (conversation.rendering, conversation.discovery, conversation.searched)
    assert tuple(asked) == wanted


# ------------------------------------------------------------- back, and once again


def test_undo_forgets_the_last_turn_in_every_arm(make: Make) -> None:
    conversation = make(0.0, 2.0)
    ask(conversation)
    kept = {k: list(v) for k, v in conversation.histories.items()}
    ask(conversation, "two blue birds")
    reply = run_command(conversation, "/undo")
    assert "two blue birds" in reply.text
    assert conversation.histories == kept
    assert len(conversation.turns) == 1
    again = ask(conversation, "three red doors")
    fresh = make(0.0, 2.0)
    ask(fresh)
    assert texts(again) == texts(ask(fresh, "three red doors"))
    for _ in range(2):
        run_command(conversation, "/undo")
    assert not any(conversation.histories.values())
    with pytest.raises(InputError, match="nothing was asked"):
        run_command(conversation, "/undo")


def test_an_arm_that_was_off_keeps_what_it_was_asked(make: Make) -> None:
    conversation = make(0.0)
    ask(conversation)
    before = list(conversation.histories["ablated"])
    run_command(conversation, "/ablate off")
    ask(conversation)  # the same question, which only the baseline answers
    run_command(conversation, "/undo")
    assert conversation.histories["ablated"] == before
    assert conversation.histories[BASELINE.label][0] == before[0]
    assert len(conversation.histories[BASELINE.label]) == 2


def test_retry_asks_again_with_what_was_changed(make: Make) -> None:
    conversation = make(0.0)
    screen = make_screen(terminal=False)
    lines = "one red stone\n/multiplier 2\n/retry\n/retry now\n"
    run_chat(screen, conversation, io.StringIO(lines))
    (turn,) = conversation.turns
    assert turn.result.prompt == "one red stone"
    assert turn.result.arms[1].multiplier == 2
    assert texts(turn) == texts(ask(make(2.0)))
    with pytest.raises(InputError, match="nothing was asked"):
        run_command(make(0.0), "/retry")


def test_a_sampled_retry_is_another_answer(make: Make) -> None:
    def answers(*commands: str) -> list[str]:
        conversation = make(temperature=1.5, max_tokens=12)
        found = texts(ask(conversation))
        for command in commands:
            reply = run_command(conversation, command)
            found += texts(ask(conversation, reply.ask or "one red stone"))
        return found

    first, second, third = answers("/retry", "/undo")
    assert len({first, second, third}) == 3
    assert answers("/retry", "/undo") == [first, second, third]


def test_help_has_a_short_name(make: Make) -> None:
    conversation = make()
    whole = run_command(conversation, "/help")
    assert run_command(conversation, "/?") == whole
    assert whole.grid is not None
    words = " ".join(" ".join(row) for row in whole.grid.rows)
    assert missing(words, "/retry", "/undo", "/?", "--force") == []
    assert run_command(conversation, "/exit").is_over
    assert run_command(conversation, "/quit").is_over


@pytest.mark.parametrize("width", [60, 80])
def test_help_is_folded_under_its_second_column(width: int, make: Make) -> None:
    grid = run_command(make(), "/help").grid
    assert grid is not None
    screen = make_screen(width)
    screen.show(grid_view(screen, grid))
    lines = plain(sent(screen.out)).splitlines()
    column = max(len(usage) for usage, _ in grid.rows)
    heads = [line[:column].strip() for line in lines]
    assert [head for head in heads if head] == [usage for usage, _ in grid.rows]
    assert len(lines) > len(grid.rows)
    assert max(map(len, lines)) <= width


def test_the_filters_of_sampling_are_set_saved_and_loaded(
    make: Make, tmp_path: Path
) -> None:
    conversation = make(temperature=0.7, top_p=0.9)
    for line in ("/set top-k 3", "/set min-p 0.05"):
        run_command(conversation, line)
    for line in ("/set top-p 0", "/set top-p 1.1", "/set min-p nan", "/set top-k -1"):
        with pytest.raises(InputError, match="it takes"):
            run_command(conversation, line)
    ask(conversation)
    path = tmp_path / "talk.json"
    run_command(conversation, f"/save {path}")
    other = make()
    run_command(other, f"/load {path}")
    assert (other.top_p, other.top_k, other.min_p) == (0.9, 3, 0.05)


@pytest.mark.parametrize("name", ["talk.md", "talk.html"])
def test_an_export_says_what_was_talked_to_and_how(
    name: str, make: Make, tmp_path: Path
) -> None:
    conversation = make(0.0, 2.0, temperature=0.5, seed=7)
    ask(conversation)
    stopped = iter([False] * 3 + [True] * 100)
    *_, turn = conversation.turn("two blue birds", lambda: next(stopped))
    assert turn.is_interrupted
    run_chat(make_screen(terminal=False), conversation, io.StringIO("/bye\n"))
    path = tmp_path / name
    run_command(conversation, f"/export {path}")
    text = re.sub(r"<[^>]+>", "", path.read_text("utf-8"))
    sizes = [
        counted(len(arm_circuit(arm).neurons), "neuron") for arm in conversation.steered
    ]
    assert (
        missing(
            text,
            f"model: {conversation.session.name}",
            "arm c ablated",
            "arm c m=2",
            *sizes,
            "temp 0.5",
            "seed 7",
            "max-tokens 8",
            "interrupted: baseline",
            "cut off: ",
        )
        == []
    )
    assert "gauge" in text
