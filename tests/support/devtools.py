"""Drive headless Chromium over its DevTools protocol, through a pipe."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from browser import BROWSER

_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)
# violations of the policy, from before the page's own script
_WATCH = """window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));"""
_KEYS = {
    "Enter": (13, "\r"),
    "Escape": (27, None),
    "End": (35, None),
    "ArrowLeft": (37, None),
    "ArrowRight": (39, None),
}


class Tab:
    """A tab of a browser.

    Attributes:
        events: what the browser told so far.
    """

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest = to, back, b""
        self._number, self._session = 0, None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._read()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._back, 1 << 16)
            assert part, "the browser ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href === '{url}'")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        ends = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < ends, f"never {expression}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """What is seen of an element."""
        return self.value(f"document.querySelector({json.dumps(selector)}).innerText")

    def type(self, text: str, into: str) -> None:
        """Write a text into a field, in the place of what it holds."""
        field = f"document.querySelector({json.dumps(into)})"
        assert self.value(f"{field}.select(), document.activeElement === {field}")
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        code, text = _KEYS[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        common["modifiers"] = 8 if shift else 0
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **down, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the window's size and its colours."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Save what is seen as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def complaints(self) -> list[str]:
        """Violations of the policy and errors of the script, since the page opened."""
        found = list(self.value("window.violations ?? []"))
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            entry = params.get("entry", {})
            if entry.get("level") == "error" and entry["source"] != "network":
                found.append(f"{entry['source']}: {entry['text']}")
        return found


@contextmanager
def browsing(profile: Path) -> Iterator[Tab]:
    """A tab of a new headless Chromium that reads commands at 3 and answers at 4."""
    assert BROWSER is not None
    theirs, to = os.pipe()
    back, answers = os.pipe()
    script = f'exec "$0" "$@" 3<&{theirs} 4>&{answers}'
    # a BLAS that was lent to MLX is none of the browser's business
    clean = {name: text for name, text in os.environ.items() if name != "LD_PRELOAD"}
    process = subprocess.Popen(
        ["bash", "-c", script, BROWSER, *_OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(theirs, answers),
        env=clean,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(answers)
    try:
        yield Tab(to, back)
    finally:
        os.close(to)  # it ends with its pipe
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(back)
