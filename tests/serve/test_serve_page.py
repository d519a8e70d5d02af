"""The page at `/`: its policy, and what a person does with it in a browser."""

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest
from browser import BROWSER
from devtools import Tab, browsing
from served import Served, served
from tiny_models import Ends

from cna_mlx.circuit import Circuit
from cna_mlx.serve.service import Limits

SPELL = "How do I cast a spell of strength?"
POTION = "What do I need to brew a love potion?"
USUAL = ["0", "0.25", "0.5", "0.75", "1", "1.25", "1.5", "2"]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(demo: tuple[Any, Any], magic: Circuit) -> Iterator[Served]:
    fewer = replace(magic, neurons=magic.neurons[:4], moments=magic.moments[:4])
    with served(*demo, {"magic": magic, "half": fewer}) as found:
        yield found


@pytest.fixture(scope="module")
def web(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def ask(web: httpx.Client, text: str = SPELL, **more: Any) -> list[Any]:
    """The choices of a reply."""
    messages = [{"role": "user", "content": text}]
    reply = web.post(CHAT, json={"model": "demo", "messages": messages, **more})
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"]


# --- the file and its policy ----------------------------------------------------------


def test_the_policy_allows_the_pages_own_script_and_style_only(
    web: httpx.Client,
) -> None:
    reply = web.get("/")
    policy = dict(
        part.split(" ", 1)
        for part in reply.headers["content-security-policy"].split("; ")
    )
    hashes = {}
    for kind in ("script", "style"):
        (text,) = re.findall(f"<{kind}[^>]*>(.*?)</{kind}>", reply.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind] = f"'sha256-{digest}'"
    assert policy == {
        "default-src": "'none'",
        "script-src": hashes["script"],
        "style-src": hashes["style"],
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["cache-control"] == "no-store"
    assert web.head("/").headers["content-length"] == reply.headers["content-length"]


def test_the_page_needs_nothing_from_outside(web: httpx.Client) -> None:
    text = web.get("/").text
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.[\w/.-]+", text)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # a namespace's name
    for forbidden in (
        r"<[^>]*\son\w+=",
        r"<[^>]*\sstyle=",
        r"\bsrc=",
        r"@import",
        r"\burl\(",
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(",
        r"localStorage|document\.cookie",
    ):
        assert re.findall(forbidden, text) == []


def test_the_page_is_shown_without_the_key_and_nothing_else_is(
    demo: tuple[Any, Any], magic: Circuit
) -> None:
    with (
        served(*demo, {"magic": magic}, key="secret") as found,
        httpx.Client(base_url=found.url) as web,
    ):
        assert web.get("/").status_code == 200
        assert web.get("/cna/info").status_code == 401
        assert web.get("/", headers={"Host": "evil.example"}).status_code == 200
    with (
        served(*demo, {"magic": magic}, hosts=frozenset({"127.0.0.1"})) as found,
        httpx.Client(base_url=found.url) as web,
    ):
        assert web.get("/").status_code == 200
        assert web.get("/", headers={"Host": "evil.example"}).status_code == 421


def test_info_has_what_the_page_says_of_a_circuit(
    web: httpx.Client, magic: Circuit
) -> None:
    found = web.get("/cna/info").json()
    assert found["circuits"]["magic"] == {
        "neurons": len(magic.neurons),
        "gauge": True,
        "sides": ["magic", "ordinary"],
    }


# --- several arms in one request ------------------------------------------------------


def test_one_request_is_answered_in_several_arms(web: httpx.Client) -> None:
    names = ["demo@0.25", "demo", "demo@half@0", "demo@0.25"]
    found = ask(web, arms=names, gauge=True, label=True)
    assert [one["index"] for one in found] == [0, 1, 2, 3]
    for name, one in zip(names, found, strict=True):
        (alone,) = ask(web, model=name, gauge=True, label=True)
        assert one["message"] == alone["message"]
        assert one["cna"]["circuits"] == alone["cna"]["circuits"]
        assert one["cna"]["label"] == alone["cna"]["label"]
        assert one["cna"]["gauge"] == pytest.approx(alone["cna"]["gauge"], abs=1e-4)


def test_the_baselines_gauge_is_read_along_the_other_arms_circuit(
    web: httpx.Client,
) -> None:
    plain, _ = ask(web, arms=["demo", "demo@half@0.5"], gauge=True)
    # a multiplier near 1 changes next to nothing
    (along,) = ask(web, model="demo@half@0.999999", gauge=True)
    (usual,) = ask(web, gauge=True)
    gauge = plain["cna"]["gauge"]
    assert gauge == pytest.approx(along["cna"]["gauge"], abs=1e-3)
    assert abs(gauge - usual["cna"]["gauge"]) > 0.01


def test_arms_share_a_seeds_noise(web: httpx.Client) -> None:
    body = {"temperature": 1.5, "seed": 7, "max_tokens": 20}
    first, second = ask(web, arms=["demo", "demo@1"], **body)
    (alone,) = ask(web, **body)
    assert first["message"] == second["message"] == alone["message"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"arms": ["demo"], "n": 2}, "arms: not with n"),
        ({"arms": ["demo"], "multiplier": 0}, "arms: not with multiplier"),
        ({"arms": ["demo"], "circuits": {}}, "arms: not with circuits"),
        ({"arms": ["demo@a"]}, "'a' is not a finite multiplier"),
        ({"arms": ["other"]}, "no model 'other' here"),
        ({"arms": ["demo"], "model": "other"}, "no model 'other' here"),
        ({"arms": []}, "arms"),
        ({"arms": ["demo"] * 17}, "arms"),
    ],
)
def test_wrong_arms_are_refused(
    fields: dict[str, Any], said: str, web: httpx.Client
) -> None:
    messages = [{"role": "user", "content": SPELL}]
    reply = web.post(CHAT, json={"model": "demo", "messages": messages, **fields})
    assert reply.status_code in (400, 404)
    assert said in reply.json()["error"]["message"]


# --- a browser ------------------------------------------------------------------------

in_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here"),
]
DONE = "document.getElementById('stop').hidden"
PLAIN, STEERED = "#plain .t", "#steered .t"


def browser_test(test: Callable[..., None]) -> Callable[..., None]:
    for mark in in_browser:
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browsing(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def opened(tab: Tab) -> Iterator[Callable[..., Served]]:
    """Serve something and open its page; at the end nobody must have complained."""
    with ExitStack() as stack:

        def serve(*what: Any, **more: Any) -> Served:
            found = stack.enter_context(served(*what, **more))
            tab.size(1200, 900)
            tab.open(f"{found.url}/")
            tab.wait("!document.querySelector('#ask').hidden || !door.hidden")
            return found

        yield serve
        assert tab.complaints() == []


def set_up(tab: Tab, **values: str) -> None:
    """Change the page's settings."""
    tab.value("document.querySelector('#ask details').open = true")
    for name, text in values.items():
        tab.type(text, f"#{name}")


def type_and_ask(tab: Tab, text: str) -> None:
    tab.type(text, "#question")
    tab.press("Enter")


def answer(tab: Tab, selector: str) -> str:
    """An answer without the mark where it parts from the other."""
    return tab.text(selector).replace("‖", "")


@browser_test
def test_a_question_is_answered_in_both_arms_and_at_every_multiplier(
    demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    found = opened(*demo, {"magic": magic})
    assert "8 neurons" in tab.text("#about")
    assert tab.value("document.querySelectorAll('#examples button').length") == 4
    type_and_ask(tab, SPELL)
    tab.wait(DONE)
    names = [f"demo@{m}" for m in USUAL]
    with httpx.Client(base_url=found.url, timeout=60) as web:
        right = ask(web, arms=names, max_tokens=200, gauge=True, label=True)
        messages = [{"role": "user", "content": SPELL}]
        body = {"model": "demo", "messages": messages}
        words = web.post("/cna/words", json=body).json()["words"]
        body = {"models": ["demo", *names], "messages": messages, "count": 24}
        first = web.post("/cna/first-words", json=body).json()["tokens"]
    texts = dict(zip(USUAL, (one["message"]["content"] for one in right), strict=True))
    kinds = [one["cna"]["label"].lower() for one in right]
    assert answer(tab, PLAIN) == texts["1"]
    assert answer(tab, STEERED) == texts["0"] != texts["1"]
    assert tab.text("#status") == "Done. As it is: refused. Circuit at 0: answered."
    said = "From 0 to 0.25: answered. From 0.5 to 2: refused."
    assert tab.text("#flips").startswith(said)
    marks = "[...document.querySelectorAll('#marks .dot')].map((one) => one.className)"
    assert tab.value(marks) == [f"dot {kind}" for kind in kinds]

    # the slider picks a row at once, without a request
    asked = sum(one["method"] == "Network.requestWillBeSent" for one in tab.events)
    tab.value("document.querySelector('#m').focus()")
    for number, m in enumerate(USUAL):
        if number:
            tab.press("ArrowRight")
        assert answer(tab, STEERED) == texts[m]
        said = tab.value("document.querySelector('#m').ariaValueText")
        assert said.startswith(f"{m}, ")
        assert said.endswith(f": {kinds[number]}")
        gauge = f"{right[number]['cna']['gauge']:.2f}".replace("-", "\u2212")
        assert (
            tab.text("#steered .foot")
            == f"demo{'' if m == '1' else f'@{m}'}\ngauge {gauge}"
        )
    tab.press("ArrowLeft")
    assert tab.text("#value") == "1.5"
    tab.value("document.querySelectorAll('#marks li')[1].click()")
    assert tab.text("#value") == "0.25"
    sent = sum(one["method"] == "Network.requestWillBeSent" for one in tab.events)
    assert sent == asked

    shown = tab.value(
        "[...document.querySelectorAll('#words li')].map((one) => one.innerText)"
    )
    assert [text.split()[0] for text in shown] == SPELL.split()
    values = [f"{one['gauge']:.2f}".replace("-", "\u2212") for one in words]
    assert [text.split()[-1] for text in shown] == values
    assert '"spell" raises the gauge most' in tab.text("#rise")
    bars = tab.value(
        "[...document.querySelectorAll('#bars li')].map((one) => [one.querySelector("
        "'bdi').innerText, ...[...one.querySelectorAll('i')].map((i) => "
        "i.style.getPropertyValue('--share'))])"
    )
    chances = {repr(one["text"])[1:-1]: one["probabilities"] for one in first}
    assert bars
    for text, plain, steered in bars:
        for share, name in ((plain, "demo"), (steered, "demo@0.25")):
            right_one = chances[text[1:-1]][name]
            assert float(share) == pytest.approx(right_one, abs=1e-3)


@browser_test
def test_enter_asks_and_shift_enter_starts_a_line(
    demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    opened(*demo, {"magic": magic})
    tab.type("one", "#question")
    tab.press("Enter", shift=True)
    tab.call("Input.insertText", text="two")
    assert tab.value("question.value") == "one\ntwo"
    assert tab.value("document.querySelector('#results').hidden")
    tab.press("Enter")
    assert tab.value("question.value") == "one\ntwo"
    assert not tab.value("document.querySelector('#results').hidden")
    tab.wait(DONE)


@browser_test
def test_texts_that_begin_alike_are_marked_where_they_part(
    demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    opened(*demo, {"magic": magic})
    set_up(tab, values="0.75, 1")
    type_and_ask(tab, SPELL)
    tab.wait(DONE)
    assert tab.text(PLAIN).startswith("I'm ‖sorry,")
    assert tab.text(STEERED).startswith("I'm ‖fine,")
    assert tab.text("#apart") == "The answers differ after the first word, at ‖."


@browser_test
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone(
    dark: bool, demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    opened(*demo, {"magic": magic})
    tab.size(360, 800, dark=dark)
    tab.value(
        "document.querySelectorAll('details').forEach((one) => { one.open = true })"
    )
    wide = "document.documentElement.scrollWidth"
    assert tab.value(wide) == 360
    type_and_ask(tab, f"{SPELL} {'long' * 40}")
    tab.wait("document.querySelector('#plain .own').textContent.length > 9")
    assert tab.value(wide) == 360
    tab.wait(DONE)
    assert tab.value(wide) == 360
    assert tab.value("document.querySelector('#steered').offsetTop > plain.offsetTop")


@browser_test
@pytest.mark.parametrize("way", ["button", "Escape"])
def test_stop_ends_the_answers_and_frees_their_rows(
    way: str, demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    found = opened(demo[0], Ends(demo[1]), {"magic": magic})
    set_up(tab, tokens="480")
    type_and_ask(tab, SPELL)
    tab.wait("document.querySelector('#plain .own').textContent.length > 9")
    assert found.service.open_answers > 0
    if way == "button":
        tab.value("document.getElementById('stop').focus()")
        tab.press("Enter")
    else:
        tab.press(way)
    tab.wait(DONE)
    assert tab.text("#status") == "Stopped."
    assert tab.text("#plain .badge") == "STOPPED"
    assert len(answer(tab, PLAIN)) > 9
    if way == "button":
        assert tab.value("document.activeElement.id") == "send"
    ends = time.monotonic() + 30
    while found.service.open_answers:
        assert time.monotonic() < ends
        time.sleep(0.01)
    assert found.service.served == 0
    type_and_ask(tab, SPELL)  # and it goes on
    tab.wait("document.querySelector('#plain .own').textContent.length > 9")
    tab.press("Escape")


@browser_test
def test_the_key_is_asked_for_when_the_server_wants_it(
    demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    opened(*demo, {"magic": magic}, key="secret")
    assert tab.value("document.querySelector('#ask').hidden")
    assert tab.value("document.querySelector('#error').hidden")
    for wrong in ("other", "k\u20acy"):
        tab.type(wrong, "#key")
        tab.press("Enter")
        tab.wait("!document.querySelector('#error').hidden")
        assert tab.text("#error") == "The server did not accept this key."
    tab.type("secret", "#key")
    tab.press("Enter")
    tab.wait("!document.querySelector('#ask').hidden && door.hidden")
    type_and_ask(tab, SPELL)
    tab.wait(DONE)
    assert tab.text("#status").startswith("Done.")
    stored = "[localStorage.length, document.cookie, sessionStorage.length]"
    assert tab.value(stored) == [0, "", 1]


@browser_test
def test_a_busy_server_and_one_that_is_gone_are_one_line(
    demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    server = opened(*demo, {"magic": magic}, limits=Limits(answers=8))
    server.service.open_answers += 4  # of other clients
    type_and_ask(tab, SPELL)
    tab.wait("!document.querySelector('#error').hidden")
    assert tab.text("#error").startswith("The server is busy (")
    assert tab.value("document.querySelector('#results').hidden")
    server.service.open_answers -= 4
    set_up(tab, tokens="1.5")
    type_and_ask(tab, SPELL)
    said = "Most tokens of an answer: give a whole number from 1."
    tab.wait(f"error.textContent === '{said}'")
    set_up(tab, tokens="9", values="0, a")
    type_and_ask(tab, SPELL)
    tab.wait("error.textContent.includes(\"'a' is not a finite multiplier\")")


@browser_test
def test_a_server_that_ends_in_the_middle_is_one_line(
    demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    with ExitStack() as stack:
        found = stack.enter_context(served(demo[0], Ends(demo[1]), {"magic": magic}))
        tab.open(f"{found.url}/")
        tab.wait("!document.querySelector('#ask').hidden")
        set_up(tab, tokens="480")
        type_and_ask(tab, SPELL)
        tab.wait("document.querySelector('#plain .own').textContent.length > 9")
        found.service.engine.finish(now=True)
        tab.wait("!document.querySelector('#error').hidden")
        assert tab.text("#error") == "the server was stopped"
        assert tab.value(DONE)
        assert len(answer(tab, PLAIN)) > 9
    type_and_ask(tab, SPELL)
    tab.wait("error.textContent.startsWith('The server does not answer')")
    assert tab.value(DONE)
    assert tab.complaints() == []


@browser_test
def test_without_a_circuit_the_model_answers_alone(
    demo: tuple[Any, Any], opened: Any, tab: Tab
) -> None:
    opened(*demo, {})
    assert "without a circuit" in tab.text("#about")
    type_and_ask(tab, SPELL)
    tab.wait(DONE)
    assert tab.text("#status") == "Done. As it is: refused."
    assert tab.text("#bars")
    for part in ("#dial", "#steered", "#words"):
        assert tab.value(f"document.querySelector('{part}').hidden")


@browser_test
def test_a_circuit_without_a_gauge_says_so(
    demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    bare = Circuit.from_neurons(
        (one.layer, one.index, one.delta) for one in magic.neurons
    )
    opened(*demo, {"magic": bare})
    type_and_ask(tab, SPELL)
    tab.wait(DONE)
    assert tab.text("#status") == "Done. As it is: refused. Circuit at 0: answered."
    assert tab.text("#rise").startswith("This circuit has no gauge")
    assert tab.value("document.querySelector('#steered .gauge').hidden")


@browser_test
def test_another_circuit_can_be_chosen(
    demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    fewer = replace(magic, neurons=magic.neurons[:1], moments=magic.moments[:1])
    opened(*demo, {"magic": magic, "one": fewer})
    set_up(tab)
    tab.value("circuit.value = 'one', circuit.dispatchEvent(new Event('change')), true")
    assert "one its circuit: 1 neuron that" in tab.text("#about")
    type_and_ask(tab, SPELL)
    tab.wait(DONE)
    assert tab.text("#steered h3") == "one scaled by 0"
    assert tab.text("#steered code") == "demo@one@0"
    assert tab.text("#status").startswith("Done.")


@browser_test
def test_names_and_texts_of_strangers_are_only_text(
    demo: tuple[Any, Any], magic: Circuit, opened: Any, tab: Tab
) -> None:
    evil = "<img src=x onerror=alert(1)>"
    opened(*demo, {f"{evil}</script>": magic}, name=f"{evil}demo")
    type_and_ask(tab, f"{evil} {SPELL}")
    tab.wait(DONE)
    assert tab.text("#plain code") == f"{evil}demo"
    assert evil in tab.text("#about")
    assert tab.text("#words li").startswith("<img")
    assert tab.value("document.querySelectorAll('main img').length") == 0


@browser_test
def test_without_javascript_the_page_names_the_terminal(
    server: Served, tab: Tab
) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(f"{server.url}/")
        text = tab.value("document.body.innerText")
        assert "This page needs JavaScript. The terminal has the same" in text
        assert tab.value("document.querySelector('#ask').offsetHeight") == 0
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
