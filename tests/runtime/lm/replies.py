"""What a provider of each protocol answers, whole and in pieces: a text, a tool call, an object, or a text after some thought."""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

Fields = dict[str, Any]
ARGUMENTS = '{"city": "Ulm"}'
OBJECT = '{"answer": "4"}'
THOUGHT = "Let me see."
FORCED_TOOL = "json_tool_call"
"""How LiteLLM asks models for an object that know tools only."""


def text_of(kind: str) -> str:
    return {"tools": "", "json": OBJECT}.get(kind, "Hello!")


def halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def openai(kind: str, body: Fields) -> tuple[Fields, list[Fields]]:
    call: Fields = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    message: Fields = {"role": "assistant", "content": text_of(kind) or None}
    reason = "tool_calls" if kind == "tools" else "stop"
    first: list[Fields] = [{"role": "assistant", "content": ""}]
    if kind == "tools":
        message["tool_calls"] = [call]
        start, end = halves(ARGUMENTS)
        first += [
            {"tool_calls": [{**call, "index": 0, "function": {"name": "weather", "arguments": start}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": end}}]},
        ]
    if kind == "reasoning":
        message["reasoning_content"] = THOUGHT
        first += [{"reasoning_content": piece} for piece in halves(THOUGHT)]
    first += [{"content": piece} for piece in halves(text_of(kind)) if piece]
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    base: Fields = {"id": "chatcmpl-1", "created": 1700000000, "model": body.get("model", "m")}
    choice = {"index": 0, "finish_reason": reason, "message": message}
    whole = {**base, "object": "chat.completion", "service_tier": "default", "choices": [choice], "usage": usage}
    deltas = [{"index": 0, "delta": delta, "finish_reason": None} for delta in first]
    chunks = [{"choices": [delta]} for delta in [*deltas, {"index": 0, "delta": {}, "finish_reason": reason}]]
    last: Fields = {"choices": [], "usage": usage}
    return whole, [{**base, "object": "chat.completion.chunk", **chunk} for chunk in [*chunks, last]]


def anthropic(kind: str, body: Fields) -> tuple[Fields, list[Fields]]:
    names = [tool.get("name") for tool in body.get("tools", [])]
    blocks: list[tuple[Fields, list[Fields]]] = []
    if kind == "reasoning":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in halves(THOUGHT)]
        deltas.append({"type": "signature_delta", "signature": "sig"})
        blocks.append(({"type": "thinking", "thinking": THOUGHT, "signature": "sig"}, deltas))
    if kind == "tools" or FORCED_TOOL in names:
        name, said = ("weather", ARGUMENTS) if kind == "tools" else (FORCED_TOOL, OBJECT)
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in halves(said)]
        blocks.append(({"type": "tool_use", "id": "c1", "name": name, "input": json.loads(said)}, deltas))
    else:
        deltas = [{"type": "text_delta", "text": piece} for piece in halves(text_of(kind))]
        blocks.append(({"type": "text", "text": text_of(kind)}, deltas))
    reason = "tool_use" if blocks[-1][0]["type"] == "tool_use" else "end_turn"
    base = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude"}
    usage = {"input_tokens": 1000, "output_tokens": 100}
    whole = {**base, "stop_reason": reason, "content": [block for block, _ in blocks], "usage": usage}
    chunks: list[Fields] = [{"type": "message_start", "message": {**base, "content": [], "stop_reason": None, "usage": usage}}]
    empty: dict[str, Fields] = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
    for index, (block, deltas) in enumerate(blocks):
        chunks.append({"type": "content_block_start", "index": index, "content_block": {**block, **empty[block["type"]]}})
        chunks += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        chunks.append({"type": "content_block_stop", "index": index})
    chunks.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 100}})
    return whole, [*chunks, {"type": "message_stop"}]


def gemini(kind: str, body: Fields) -> tuple[Fields, list[Fields]]:
    usage = {"promptTokenCount": 1000, "candidatesTokenCount": 100, "totalTokenCount": 1100}
    parts: list[Fields] = [{"text": text_of(kind)}] if text_of(kind) else []
    pieces: list[Fields] = [{"text": piece} for piece in halves(text_of(kind)) if piece]
    if kind == "tools":
        parts = pieces = [{"functionCall": {"name": "weather", "args": json.loads(ARGUMENTS)}}]
    if kind == "reasoning":
        parts = [{"text": THOUGHT, "thought": True}, *parts]
        pieces = [*({"text": piece, "thought": True} for piece in halves(THOUGHT)), *pieces]

    def reply(content: list[Fields], **more: Any) -> Fields:
        candidate = {"index": 0, "content": {"role": "model", "parts": content}, **more}
        return {"responseId": "r1", "modelVersion": "gemini-2.0-flash", "candidates": [candidate]}

    whole = {**reply(parts, finishReason="STOP"), "usageMetadata": usage}
    last = {**reply(pieces[-1:], finishReason="STOP"), "usageMetadata": usage}
    return whole, [*(reply([piece]) for piece in pieces[:-1]), last]


def cohere(kind: str, body: Fields) -> tuple[Fields, list[Fields]]:
    tokens = {"input_tokens": 1000, "output_tokens": 100}
    usage = {"billed_units": tokens, "tokens": tokens}
    message: Fields = {"role": "assistant"}
    middle: list[Fields]
    if kind == "tools":
        message["tool_calls"] = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}]
        start = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
        calls = [start, *({"function": {"arguments": piece}} for piece in halves(ARGUMENTS))]
        kinds = ["tool-call-start", "tool-call-delta", "tool-call-delta"]
        deltas = [{"message": {"tool_calls": call}} for call in calls]
        middle = [{"type": kind, "index": 0, "delta": delta} for kind, delta in zip(kinds, deltas, strict=True)]
    else:
        message["content"] = [{"type": "text", "text": text_of(kind)}]
        middle = [
            {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
            *(
                {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}}
                for piece in halves(text_of(kind))
            ),
            {"type": "content-end", "index": 0},
        ]
    reason = "TOOL_CALL" if kind == "tools" else "COMPLETE"
    whole = {"id": "c1", "finish_reason": reason, "message": message, "usage": usage}
    begin = {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}}
    return whole, [begin, *middle, {"type": "message-end", "delta": {"finish_reason": reason, "usage": usage}}]


def ollama_chat(kind: str, body: Fields) -> tuple[Fields, list[Fields]]:
    base = {"model": "llama3", "created_at": "2025-05-24T02:12:05.859654Z"}
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 1000, "eval_count": 100}
    said: Fields = {"role": "assistant", "content": text_of(kind)}
    pieces: list[Fields] = [{"role": "assistant", "content": piece} for piece in halves(text_of(kind)) if piece]
    if kind == "tools":
        said["tool_calls"] = [{"function": {"name": "weather", "arguments": json.loads(ARGUMENTS)}}]
        pieces = [said]
    if kind == "reasoning":
        said["thinking"] = THOUGHT
        pieces = [*({"role": "assistant", "content": "", "thinking": piece} for piece in halves(THOUGHT)), *pieces]
    chunks = [{**base, "message": piece, "done": False} for piece in pieces]
    return {**base, "message": said, **end}, [*chunks, {**base, "message": {"role": "assistant", "content": ""}, **end}]


def ollama(kind: str, body: Fields) -> tuple[Fields, list[Fields]]:
    base = {"model": "llama3", "created_at": "2025-05-24T02:12:05.859654Z"}
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 1000, "eval_count": 100}
    said = json.dumps({"name": "weather", "arguments": json.loads(ARGUMENTS)}) if kind == "tools" else text_of(kind)
    chunks = [{**base, "response": piece, "done": False} for piece in halves(said)]
    return {**base, "response": said, **end}, [*chunks, {**base, "response": "", **end}]


def bedrock(kind: str, body: Fields) -> tuple[Fields, list[Fields]]:
    names = [tool.get("toolSpec", {}).get("name") for tool in body.get("toolConfig", {}).get("tools", [])]
    blocks: list[tuple[Fields, Fields | None, list[Fields]]] = []
    if kind == "reasoning":
        deltas: list[Fields] = [{"reasoningContent": {"text": piece}} for piece in halves(THOUGHT)]
        deltas.append({"reasoningContent": {"signature": "sig"}})
        blocks.append(({"reasoningContent": {"reasoningText": {"text": THOUGHT, "signature": "sig"}}}, None, deltas))
    if kind == "tools" or FORCED_TOOL in names:
        name, said = ("weather", ARGUMENTS) if kind == "tools" else (FORCED_TOOL, OBJECT)
        deltas = [{"toolUse": {"input": piece}} for piece in halves(said)]
        start = {"toolUse": {"toolUseId": "c1", "name": name}}
        blocks.append(({"toolUse": {"toolUseId": "c1", "name": name, "input": json.loads(said)}}, start, deltas))
    else:
        blocks.append(({"text": text_of(kind)}, None, [{"text": piece} for piece in halves(text_of(kind))]))
    reason = "tool_use" if "toolUse" in blocks[-1][0] else "end_turn"
    usage = {"inputTokens": 1000, "outputTokens": 100, "totalTokens": 1100}
    message = {"role": "assistant", "content": [block for block, _, _ in blocks]}
    whole = {"output": {"message": message}, "stopReason": reason, "usage": usage, "metrics": {"latencyMs": 1}}
    chunks: list[Fields] = [{"messageStart": {"role": "assistant"}}]
    for index, (_, begin, deltas) in enumerate(blocks):
        if begin is not None:
            chunks.append({"contentBlockStart": {"start": begin, "contentBlockIndex": index}})
        chunks += [{"contentBlockDelta": {"delta": delta, "contentBlockIndex": index}} for delta in deltas]
        chunks.append({"contentBlockStop": {"contentBlockIndex": index}})
    chunks.append({"messageStop": {"stopReason": reason}})
    return whole, [*chunks, {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}]


def aws_message(payload: Fields, **headers: str) -> bytes:
    """One message of Amazon's event stream."""
    raw = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in ((f":{name.replace('_', '-')}", value) for name, value in headers.items())
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(raw) + len(body), len(raw))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + raw + body
    return message + struct.pack("!I", zlib.crc32(message))


def aws_events(chunks: list[Fields]) -> bytes:
    return b"".join(
        aws_message(payload, event_type=name, content_type="application/json", message_type="event")
        for chunk in chunks
        for name, payload in chunk.items()
    )


def _json(reply: Mapping[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(reply).encode()


def _events(chunks: list[Fields], last: str = "") -> tuple[str, bytes]:
    lines = [f"event: {chunk['type']}\n" if "type" in chunk else "" for chunk in chunks]
    body = "".join(f"{name}data: {json.dumps(chunk)}\n\n" for name, chunk in zip(lines, chunks, strict=True))
    return "text/event-stream", (body + last).encode()


def _lines(chunks: list[Fields]) -> tuple[str, bytes]:
    return "application/x-ndjson", "".join(f"{json.dumps(chunk)}\n" for chunk in chunks).encode()


def embeddings_to(place: str, body: Fields) -> tuple[str, bytes]:
    """Two numbers for each text, by its place."""
    texts = body.get("input") or body.get("texts") or body.get("requests") or []
    vectors = [[float(index), 0.5] for index in range(len(texts))]
    if place.endswith("/api/embed"):
        return _json({"model": "m", "embeddings": vectors, "prompt_eval_count": 1000})
    if place.endswith(":batchEmbedContents"):
        return _json({"embeddings": [{"values": vector} for vector in vectors]})
    if "texts" in body:
        return _json({"id": "e1", "embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": 1000}}})
    rows = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 1000, "total_tokens": 1000}
    return _json({"object": "list", "data": rows, "model": body.get("model", "m"), "usage": usage})


def answer_to(path: str, body: Fields, kind: str = "text") -> tuple[str, bytes]:
    """Content type and body of the reply to one request."""
    place, _, query = path.partition("?")
    if place.endswith("/token"):
        return _json({"access_token": "ya29.s3cret-token", "expires_in": 3600, "token_type": "Bearer"})
    if place.endswith("/api/show"):
        return _json({"template": "{{ .Prompt }}", "model_info": {}})
    if "mbed" in place:
        return embeddings_to(place, body)
    if place.endswith("/api/chat"):
        whole, chunks = ollama_chat(kind, body)
        return _lines(chunks) if body["stream"] else _json(whole)
    if place.endswith("/api/generate"):
        whole, chunks = ollama(kind, body)
        return _lines(chunks) if body["stream"] else _json(whole)
    if "enerateContent" in place:
        whole, chunks = gemini(kind, body)
        return _events(chunks) if query == "alt=sse" else _json(whole)
    if place.endswith("/converse"):
        return _json(bedrock(kind, body)[0])
    if place.endswith("/converse-stream"):
        return "application/vnd.amazon.eventstream", aws_events(bedrock(kind, body)[1])
    if place.endswith("/v2/chat"):
        whole, chunks = cohere(kind, body)
        return _events(chunks) if body.get("stream") else _json(whole)
    if place.endswith("/messages"):
        whole, chunks = anthropic(kind, body)
        return _events(chunks) if body.get("stream") else _json(whole)
    whole, chunks = openai(kind, body)
    return _events(chunks, "data: [DONE]\n\n") if body.get("stream") else _json(whole)
