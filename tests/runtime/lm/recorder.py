"""A plain threaded HTTP server that writes down what it is asked, for clients that do not run on trio."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

OPENAI_REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello!"}}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
}
ANTHROPIC_REPLY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello!"}],
    "usage": {"input_tokens": 1000, "output_tokens": 100},
}


OPENAI_CHUNKS: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": "lo!"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}},
]
ANTHROPIC_CHUNKS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**ANTHROPIC_REPLY, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo!"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 100}},
    {"type": "message_stop"},
]


GEMINI_REPLY: dict[str, Any] = {
    "responseId": "r1",
    "modelVersion": "gemini-2.0-flash",
    "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [{"text": "Hello!"}]}}],
    "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 100, "totalTokenCount": 1100},
}
COHERE_REPLY: dict[str, Any] = {
    "id": "c1",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}]},
    "usage": {
        "billed_units": {"input_tokens": 1000, "output_tokens": 100},
        "tokens": {"input_tokens": 1000, "output_tokens": 100},
    },
}
OLLAMA_REPLY: dict[str, Any] = {
    "model": "llama3",
    "created_at": "2025-05-24T02:12:05.859654Z",
    "message": {"role": "assistant", "content": "Hello!"},
    "done_reason": "stop",
    "done": True,
    "prompt_eval_count": 1000,
    "eval_count": 100,
}


def gemini_chunk(text: str) -> dict[str, Any]:
    return {**GEMINI_REPLY, "candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}]}


def cohere_chunk(text: str) -> dict[str, Any]:
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}}


def ollama_chunk(text: str) -> dict[str, Any]:
    return {"model": "llama3", "created_at": "x", "message": {"role": "assistant", "content": text}, "done": False}


GEMINI_CHUNKS: list[dict[str, Any]] = [
    {name: value for name, value in gemini_chunk("Hel").items() if name != "usageMetadata"},
    {**GEMINI_REPLY, "candidates": [{**GEMINI_REPLY["candidates"][0], "content": {"role": "model", "parts": [{"text": "lo!"}]}}]},
]
COHERE_CHUNKS: list[dict[str, Any]] = [
    {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    cohere_chunk("Hel"),
    cohere_chunk("lo!"),
    {"type": "content-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE_REPLY["usage"]}},
]
OLLAMA_CHUNKS: list[dict[str, Any]] = [
    ollama_chunk("Hel"),
    ollama_chunk("lo!"),
    {**OLLAMA_REPLY, "message": {"role": "assistant", "content": ""}},
]


def own_answer_to(path: str, body: Any) -> tuple[str, bytes] | None:
    """The reply of the providers whose replies are like nobody else's."""
    place, _, query = path.partition("?")
    if place.endswith("/api/chat"):
        lines = "".join(f"{json.dumps(chunk)}\n" for chunk in OLLAMA_CHUNKS)
        return ("application/x-ndjson", lines.encode()) if body["stream"] else _json(OLLAMA_REPLY)
    if "enerateContent" in place:
        return _events(GEMINI_CHUNKS) if query == "alt=sse" else _json(GEMINI_REPLY)
    if place.endswith("/v2/chat"):
        return _events(COHERE_CHUNKS) if body.get("stream") else _json(COHERE_REPLY)
    return None


def _json(reply: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(reply).encode()


def _events(chunks: list[dict[str, Any]]) -> tuple[str, bytes]:
    return "text/event-stream", "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode()


def answer_to(path: str, body: Any) -> tuple[str, bytes]:
    """Content type and body of the reply."""
    own = own_answer_to(path, body)
    if own is not None:
        return own
    is_anthropic = path.endswith("/messages")
    if not body.get("stream"):
        return "application/json", json.dumps(ANTHROPIC_REPLY if is_anthropic else OPENAI_REPLY).encode()
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-4o-mini-2024-07-18"}
    chunks = ANTHROPIC_CHUNKS if is_anthropic else [{**base, **chunk} for chunk in OPENAI_CHUNKS]
    lines = [
        f"event: {chunk['type']}\ndata: {json.dumps(chunk)}\n\n" if is_anthropic else f"data: {json.dumps(chunk)}\n\n"
        for chunk in chunks
    ]
    return "text/event-stream", "".join([*lines, "" if is_anthropic else "data: [DONE]\n\n"]).encode()


@attrs.frozen
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@attrs.define(eq=False)
class Recorder:
    url: str
    seen: list[Seen] = attrs.field(factory=list[Seen])


@contextmanager
def recording() -> Iterator[Recorder]:
    recorder = Recorder("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            recorder.seen.append(Seen(self.command, self.path, headers, body))
            kind, raw = answer_to(self.path, body)
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(raw)))
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
