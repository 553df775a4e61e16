"""A headless Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import websocket

from tests.support.wait import wait_for

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0")


def program() -> str:
    """The installed Chromium; without one the test is skipped."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip("no Chromium is installed (tests/system-packages.sh)")
    return found


#: Seconds for what a browser does. It needs several processes and much of the machine for it.
DEADLINE = 50.0


class Browser:
    """One page. What the page complains of (violations of its policy, exceptions) is in ``complaints``."""

    def __init__(self, *flags: str) -> None:
        self._profile = tempfile.mkdtemp(prefix="oxicorn-browser-")
        command = [program(), *FLAGS, *flags, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._count = 0
        self._loaded = 0
        self.complaints: list[str] = []
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line):
                break
        else:
            raise AssertionError("the browser has ended")
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/json", timeout=DEADLINE) as answer:
            page = next(each for each in json.load(answer) if each["type"] == "page")
        self._socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=DEADLINE, suppress_origin=True)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._count:
                assert "error" not in message, message
                return message["result"]
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        params = message["params"]
        if message["method"] == "Page.loadEventFired":
            self._loaded += 1
        elif message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(str(params))
        elif message["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])

    def open(self, url: str) -> None:
        """Returns when the page is there."""
        self._loading("Page.navigate", url=url)

    def load_again(self) -> None:
        self._loading("Page.reload")

    def _loading(self, method: str, **params: object) -> None:
        loaded = self._loaded
        self.call(method, **params)
        while self._loaded == loaded:
            self._hear(json.loads(self._socket.recv()))

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Waits until it is true."""
        return wait_for(lambda: self.run(expression), DEADLINE, what=lambda: f"{expression}, {self._state()}")

    def _state(self) -> str:
        """What is to be seen when something is waited for in vain."""
        found = "[document.readyState, document.activeElement.outerHTML.slice(0, 200), document.body.innerText]"
        return f"but: {self.run(found)} complaints: {self.complaints}"

    def press(self, key: str, code: int) -> None:
        """A key, as somebody presses it."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def prefer(self, scheme: str) -> None:
        """``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        shutil.rmtree(Path(self._profile), ignore_errors=True)
