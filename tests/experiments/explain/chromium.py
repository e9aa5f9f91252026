"""A page in Chromium, without a window, driven through its DevTools protocol.

The protocol's messages go through two pipes (``--remote-debugging-pipe``), so neither
a port nor a package is needed.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-sandbox",  # which root and most containers can't have; the page is our own
    "--remote-debugging-pipe",
)

SECONDS = 60.0
"""How long an answer may take."""


def chromium() -> str | None:
    """The path of Chromium, or of Chrome; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser of its own.

    Args:
        profile: an empty folder for what the browser writes.
    """

    def __init__(self, profile: Path) -> None:
        program = chromium()
        assert program is not None
        commands, self._send = os.pipe()
        self._receive, answers = os.pipe()
        shown = [
            program,
            *OPTIONS,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        # The browser reads from its file descriptor 3 and writes to 4.
        script = f'exec "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *shown],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._read, self._number, self._session = b"", 0, None
        self.complaints: list[str] = []
        [page] = [
            target
            for target in self.call("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        ]
        attached = {"targetId": page["targetId"], "flatten": True}
        self._session = self.call("Target.attachToTarget", **attached)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser."""
        self._session = None
        self.call("Browser.close")
        self._process.wait(SECONDS)
        os.close(self._send)
        os.close(self._receive)

    def call(self, method: str, **params: object) -> dict:
        """A command of the protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _message(self) -> dict:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._receive], [], [], end - time.monotonic())
            more = os.read(self._receive, 2**20) if ready else b""
            if not more:
                raise RuntimeError("the browser does not answer")
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict) -> None:
        """Keeps errors, warnings, and what was asked of a network."""
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                told = details.get("exception", {}).get("description", details["text"])
                self.complaints.append(told)
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning"):
                self.complaints.append(json.dumps(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:", "about:")):
                    self.complaints.append(f"asked for {url}")

    def open(self, address: str) -> None:
        """Loads a page, whole."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.wait("document.readyState + location.protocol", "completefile:")

    def ask(self, expression: str) -> object:
        """What JavaScript gives for an expression."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def wait(self, expression: str, expected: object) -> None:
        """Until JavaScript gives what is expected."""
        end = time.monotonic() + SECONDS
        while (found := self.ask(expression)) != expected:
            assert time.monotonic() < end, f"{expression}: {found!r}"
            time.sleep(0.02)

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Sets the window's size, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    def dark(self, dark: bool) -> None:
        """Sets what the reader prefers."""
        value = "dark" if dark else "light"
        feature = {"name": "prefers-color-scheme", "value": value}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def press(self, key: str) -> None:
        """A key, pressed and let go."""
        code = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39}.get(key, 0)
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def point(self, selector: str, *, click: bool = False) -> None:
        """Moves the mouse to an element, which is scrolled to, and may click it."""
        box = self.ask(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        assert isinstance(box, list)
        at = {"x": box[0], "y": box[1]}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
        if click:
            button = {"button": "left", "clickCount": 1, **at}
            self.call("Input.dispatchMouseEvent", type="mousePressed", **button)
            self.call("Input.dispatchMouseEvent", type="mouseReleased", **button)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """What is seen, as a PNG; or the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
