"""Headless Chromium, driven over a pipe by the DevTools protocol: no port, no package."""

import base64
import json
import os
import select
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium")
SILENT_s = 120.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root in a container; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",  # commands come in on descriptor 3, answers go out on 4
)


@dataclass
class Visit:
    """What a page did while it was shown.

    Attributes:
        requests: Addresses asked for, the page's own first.
        complaints: Console messages above information, exceptions, entries of the browser's log.
    """

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


class Browser:
    """One tab. Used as a context manager."""

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        down, up = os.pipe(), os.pipe()
        words = [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{down[0]} 4>&{up[1]}', "bash", *words],
            pass_fds=(down[0], up[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down[0])
        os.close(up[1])
        self._write, self._read = os.fdopen(down[1], "wb", buffering=0), os.fdopen(up[0], "rb", buffering=0)
        self._pending, self._number, self._session = b"", 0, ""
        self._visit = Visit()

    def __enter__(self) -> "Browser":
        target = next(t for t in self._ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        found = self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._session = ""
            self._ask("Browser.close")
            self._process.wait(30)
            self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._write.close()
        self._read.close()

    def show(self, page: Path, width: int, height: int) -> Visit:
        """Load a page in a window of this size [CSS pixels] and wait until everything in it is there."""
        self._visit = Visit()
        phone = width < 600
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self._ask("Page.navigate", url=page.as_uri())
        self._until(lambda message: message.get("method") == "Page.loadEventFired")
        self.value(
            "document.fonts.ready.then(() => Promise.all([...document.images].map(i => i.decode().catch(() => 0))))"
        )
        return self._visit

    def value(self, expression: str) -> Any:
        """What a line of JavaScript gives, promises awaited."""
        answer = self._ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG, however far it scrolls."""
        answer = self._ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message that is wanted; on the way the visit takes note of the others."""
        while True:
            while b"\0" not in self._pending:
                if not select.select([self._read], [], [], SILENT_s)[0]:
                    self._end()
                    raise TimeoutError(f"chromium says nothing for {SILENT_s:g} s")
                more = self._read.read(1 << 20)
                assert more, "chromium ended"
                self._pending += more
            raw, _, self._pending = self._pending.partition(b"\0")
            message: dict[str, Any] = json.loads(raw)
            self._note(message)
            if wanted(message):
                return message

    def _note(self, message: dict[str, Any]) -> None:
        found = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self._visit.requests.append(found["request"]["url"])
            case "Runtime.consoleAPICalled" if found["type"] in ("error", "warning", "assert"):
                self._visit.complaints.append(str(found["args"]))
            case "Runtime.exceptionThrown":
                self._visit.complaints.append(str(found["exceptionDetails"]))
            case "Log.entryAdded" if found["entry"]["level"] in ("error", "warning"):
                self._visit.complaints.append(found["entry"]["text"])
