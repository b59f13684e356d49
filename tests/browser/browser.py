"""A real headless browser for tests, driven by its own DevTools protocol.

A few calls of the protocol do all that is needed, so that no framework, and no browser of its own
build, has to be installed: Debian's `chromium` or `chromium-headless-shell` will do.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api_server import Missing, eventually, process
from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_browser() -> str:
    """The program.

    Raises:
        Missing: there is none.
    """
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        raise Missing("no browser: apt-get install chromium-headless-shell")
    return found


class Page:
    """A tab.

    Attributes:
        told: what the page has logged, thrown, or was kept from by its policy.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._calls, self._session = socket, 0, ""
        self.told: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """One call of the protocol; gives its result."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._calls:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.told.append(json.dumps(details["exceptionDetails"])[:600])
            case "Runtime.consoleAPICalled" | "Log.entryAdded":
                self.told.append(json.dumps(details)[:600])

    def look(
        self, width: int = 1280, height: int = 900, *, is_dark: bool = False, is_phone: bool = False
    ) -> None:
        """Be a screen of this size (CSS pixels), light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=is_phone,
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression on the page."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def waits_for(self, script: str, within: float = 30) -> None:
        """Until an expression is true."""

        def show() -> str:
            return f"{script}; the page shows: {self.text()[:3000]}; it told: {self.told}"

        ends_at = time.monotonic() + within
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < ends_at, f"not within {within:.0f} s: {show()}"
            time.sleep(0.05)

    def shows(self, text: str, within: float = 30) -> None:
        self.waits_for(f"(document.body?.innerText ?? '').includes({json.dumps(text)})", within)

    def text(self) -> str:
        return str(self.run("document.body?.innerText ?? ''"))

    def press(self, key: str) -> None:
        """A key, by the name that the DOM gives it."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        about = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, 0)}
        down = {"type": "keyDown" if text else "rawKeyDown", "text": text} if text else {}
        self.call("Input.dispatchKeyEvent", **({"type": "rawKeyDown"} | down | about))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def shoot(self, file: Path, *, whole: bool = False) -> None:
        """A picture of the screen, or of the whole page."""
        options = {"captureBeyondViewport": True} if whole else {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {**size, "scale": 1}
        answer = self.call("Page.captureScreenshot", format="png", **options)
        file.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def running_browser(folder: Path) -> Iterator[Page]:
    """A browser with one tab, until the block ends.

    Raises:
        Missing: there is none on this machine.
    """
    command = [
        find_browser(),
        "--headless",
        # The tests may run as root, where there is no sandbox; the page is our own.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder / 'profile'}",
        "about:blank",
    ]
    log = folder / "browser.log"
    with process(command, log, start_new_session=True) as child:

        def address() -> str:
            assert child.poll() is None, f"the browser ended: {log.read_text(errors='replace')}"
            found = log.read_text(errors="replace").partition("DevTools listening on ")[2]
            return found.partition("\n")[0] if "\n" in found else ""

        try:
            url = eventually("the browser listens", address, within=60)
            with connect(url, max_size=64 * 2**20, compression=None) as socket:
                yield Page(socket)
        finally:
            # Debian's program is a script that starts the browser as its child.
            os.killpg(child.pid, signal.SIGTERM)
