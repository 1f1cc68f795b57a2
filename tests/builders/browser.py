"""One headless Chromium for tests of pages, opened from the file system."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--use-angle=swiftshader",  # WebGL in software
    "--enable-unsafe-swiftshader",
]
# The protocol reads on descriptor 3 and writes on 4; copies above 9 first, so that neither is in the way.
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for place, end in enumerate(ends, 3):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
CANDIDATES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Browser:
    """One headless Chromium driven over its debugging pipe (no sockets, no driver package)."""

    def __init__(self, binary: str, profile: Path, flags: Sequence[str] = ()) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        ends = [str(to_browser), str(from_browser)]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", LAUNCH, *ends, binary, *FLAGS, *flags),
                *(f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest = b""
        self._count = 0
        self.events: list[dict[str, Any]] = []
        self.session = ""
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attach = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self.session = attach["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._read, 1 << 16)
            if not data:
                raise RuntimeError("the browser ended")
            self._rest += data
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        request = {"id": self._count, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self._write, json.dumps(request).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == self._count:
                assert "error" not in message, f"{method}: {message}"
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < deadline, f"never became true: {expression}"
            time.sleep(0.02)

    def size(self, width: int, height: int, scale: float = 1, *, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page afresh and wait until it says it is ready."""
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.as_uri() + fragment)
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")
        if page.parent.name == "scenes":
            self.wait("document.documentElement.dataset.ready === 'true'")
            self.wait("document.documentElement.dataset.charts === 'ready'")

    def settle(self) -> None:
        """Two frames later everything asked for is on screen."""
        self.wait("(document.documentElement.dataset.ready || 'true') === 'true'")
        self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def key(self, key: str, modifiers: int = 0) -> None:
        text: dict[str, Any] = {"text": key} if len(key) == 1 else {}
        if key == "Escape":
            text = {"windowsVirtualKeyCode": 27}  # dialogs listen to the code, not to the name
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=modifiers, **text)
        self.settle()

    def picture(self, *, whole: bool = False) -> NDArray[np.uint8]:
        """A screenshot, (H, W, 3)."""
        self.settle()
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with Image.open(io.BytesIO(base64.b64decode(shot["data"]))) as opened:
            return np.asarray(opened.convert("RGB"))

    def complaints(self) -> list[str]:
        """Exceptions, console errors and log errors since the page was opened."""
        found = []
        for event in self.events:
            name, params = event.get("method"), event.get("params", {})
            if name == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif name == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
                found.append(str(params["args"]))
            elif name == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(str(params["entry"]))
        found = [one for one in found if "GPU stall due to ReadPixels" not in one]  # of software GL
        error = self.js("document.documentElement.dataset.error || ''")
        return found + ([error] if error else [])

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened, without the blank page in between."""
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent if params["request"]["url"] != "about:blank"]

    def close(self) -> None:
        os.close(self._write)
        os.close(self._read)
        self.process.terminate()
        self.process.wait(timeout=20)


def start_browser(*flags: str) -> tuple[Browser, Path]:
    binary = next(filter(None, map(shutil.which, CANDIDATES)), None)
    if binary is None:
        pytest.skip("no Chromium on this machine; the Debian package `chromium` runs these tests")
    profile = Path(tempfile.mkdtemp(prefix="mvtf-browser-"))
    return Browser(binary, profile, flags), profile
