"""A plain threaded HTTP server that writes down what it is asked, for clients that do not run on trio."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

from tests.runtime.lm.replies import answer_to

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001080600000"
    "01f15c4890000000d49444154789c63606060f80f0001040100"
    "5fe5c34b0000000049454e44ae426082"
)
"""A picture of one pixel."""


@attrs.frozen
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes = attrs.field(default=b"", repr=False)


@attrs.define(eq=False)
class Recorder:
    url: str
    kind: str = "text"
    """What the model answers; see ``replies``."""
    failures: list[tuple[int, dict[str, str], bytes]] = attrs.field(factory=list[tuple[int, dict[str, str], bytes]])
    """Status, headers and body of the next replies."""
    seen: list[Seen] = attrs.field(factory=list[Seen])
    """Requests to models."""
    others: list[Seen] = attrs.field(factory=list[Seen])
    """Requests for tokens, pictures, and whatever else."""


def read_body(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode()


@contextmanager
def recording(kind: str = "text") -> Iterator[Recorder]:
    recorder = Recorder("", kind)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            seen = Seen(
                self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, read_body(raw), raw
            )
            is_aside = self.path.endswith(("/token", "/api/show"))
            (recorder.others if is_aside else recorder.seen).append(seen)
            if recorder.failures:
                status, headers, reply = recorder.failures.pop(0)
                self.reply(status, "application/json", reply, headers)
            else:
                self.reply(200, *answer_to(self.path, {} if is_aside else seen.body, recorder.kind))

        def do_GET(self) -> None:
            recorder.others.append(Seen(self.command, self.path, dict(self.headers.items()), None))
            self.reply(200, "image/png", PIXEL)

        def reply(self, status: int, kind: str, raw: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"content-type": kind, "content-length": str(len(raw)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    recorder.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
