"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE_S = 60.0
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1000,800",
    "--remote-debugging-port=0",
)


class Page:
    """One page. `errors` are what its console has complained of."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.errors: list[str] = []

    async def listen(self) -> None:
        """Take what the browser says."""
        while True:
            try:
                message = json.loads(await self._socket.recv())
            except ConnectionClosed:
                return
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            elif message["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.errors.append(str(message["params"]["entry"]))
            elif message["method"] == "Runtime.consoleAPICalled" and message["params"]["type"] == "error":
                self.errors.append(str(message["params"]["args"]))

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        message = await asyncio.wait_for(answer, PATIENCE_S)
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    async def tell(self, expression: str) -> Any:
        """The value of some JavaScript."""
        result = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until some JavaScript is true."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.tell(f"Boolean({expression})"):
                await asyncio.sleep(0.02)

    async def go(self, url: str) -> None:
        """Load a page."""
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def press(self, key: str) -> None:
        """A key, as the keyboard sends it."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=CODES[key], **text
            )

    async def write(self, text: str) -> None:
        """Some text, as if it were typed."""
        await self.call("Input.insertText", text=text)

    async def picture(self, file: Path) -> None:
        """A PNG of what is to be seen."""
        file.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot"))["data"]))


CODES = {"Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Tab": 9, "Escape": 27}


@asynccontextmanager
async def browsing(folder: Path, *, before: str = "") -> AsyncIterator[Page]:
    """A page of a fresh browser; `before` runs in it before anything of its own does."""
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while b"DevTools listening on ws://" not in (line := await process.stderr.readline()):
                assert line, "the browser has ended"
        draining = asyncio.ensure_future(process.stderr.read())
        port = line.split(b"127.0.0.1:")[1].split(b"/")[0].decode()
        async with httpx2.AsyncClient() as client:
            pages = (await client.get(f"http://127.0.0.1:{port}/json/list")).json()
        where = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        async with connect(where, max_size=None) as socket:
            page = Page(socket)
            listening = asyncio.ensure_future(page.listen())
            for domain in ("Page", "Runtime", "Log"):
                await page.call(f"{domain}.enable")
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=before)
            yield page
            listening.cancel()
    finally:
        process.kill()
        await process.wait()
        draining.cancel()
