"""A page in headless Chromium, driven over the DevTools protocol with what Bokeh already brings."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
)
_PATIENCE = 60.0


class Page:
    """Evaluate, move the mouse, take pictures; `problems` and `requests` collect on the way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: WebSocketClientConnection) -> None:
        self._loop, self._socket, self._sent = loop, socket, 0
        self.problems: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command and its answer."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        return self._loop.run_until_complete(self._exchange(message))

    async def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        await self._socket.write_message(json.dumps(message))
        while True:
            text = await asyncio.wait_for(self._socket.read_message(), _PATIENCE)
            assert text is not None, "Chromium closed the connection"
            answer = json.loads(text)
            if answer.get("id") == message["id"]:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        facts = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(facts["exceptionDetails"])[:500])
        elif event["method"] == "Log.entryAdded" and facts["entry"]["level"] in (
            "error",
            "warning",
        ):
            self.problems.append(facts["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled" and facts["type"] in (
            "error",
            "warning",
        ):
            self.problems.append(json.dumps(facts["args"])[:500])

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression; promises are awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The first truthy value of an expression."""
        end = time.monotonic() + _PATIENCE
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} did not come true"
            time.sleep(0.05)
        return value

    def move_mouse(self, x: float, y: float) -> None:
        """Move to a place in the viewport."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def settle(self) -> None:
        """Return once the page has drawn what it was told, however slow the machine is."""
        frame = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
        for _ in range(2):  # an event asks for a frame, which may ask for another
            self.evaluate(frame)

    def screenshot(self, path: Path) -> None:
        """Save what the viewport shows."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def open_page(file: Path, width: int = 1400, height: int = 1000) -> Iterator[Page]:
    """The page of a local file, loaded."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        size = f"--window-size={width},{height}"
        process = subprocess.Popen(
            [CHROMIUM, *_FLAGS, size, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        loop = asyncio.new_event_loop()
        try:
            target = _debugger_address(Path(profile) / "DevToolsActivePort")
            socket = loop.run_until_complete(_connect(target))
            page = Page(loop, socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.call(f"{domain}.enable")
            page.call("Page.navigate", url=file.absolute().as_uri())
            page.wait_for("document.readyState === 'complete'")
            yield page
            socket.close()
            loop.run_until_complete(asyncio.sleep(0.05))
        finally:
            process.terminate()
            process.wait()
            loop.close()


async def _connect(target: str) -> WebSocketClientConnection:
    return await asyncio.wait_for(
        websocket_connect(target, max_message_size=1 << 28), timeout=_PATIENCE
    )


def _debugger_address(port_file: Path) -> str:
    """The address of the first tab, once Chromium has written its port."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, IndexError):
            port = int(port_file.read_text().split()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=2) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            return tabs[0]["webSocketDebuggerUrl"]
        time.sleep(0.05)
    raise TimeoutError("Chromium did not open its debugging port")
