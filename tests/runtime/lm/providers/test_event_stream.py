import importlib
import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.lm.http.binary_frames import NotAnEvent
from runtime.lm.http.sse_reader import EventTooLarge, ServerEvent
from runtime.lm.providers.event_stream import BinaryEventReader
from tests.runtime.lm.replies import aws_message


def message(payload: Any = None, **headers: str) -> bytes:
    return aws_message(payload or {"a": 1}, **(headers or {"message_type": "event", "event_type": "delta"}))


def packed(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return body + struct.pack("!I", zlib.crc32(body))


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20)), max_size=4), st.data())
def test_messages_come_out_whole_wherever_the_bytes_are_cut(payloads: list[dict[str, str]], data: st.DataObject):
    raw = b"".join(aws_message(payload, event_type="e", message_type="event") for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    reader = BinaryEventReader()

    events = [event for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True) for event in reader.feed(raw[start:end])]

    assert events == [ServerEvent(json.dumps(payload), "e") for payload in payloads]
    assert reader.close() == []


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20)), min_size=1, max_size=4))
def test_messages_are_those_that_botocore_reads(payloads: list[dict[str, str]]):
    raw = b"".join(aws_message(payload, event_type="e", message_type="event") for payload in payloads)
    buffer: Any = importlib.import_module("botocore.eventstream").EventStreamBuffer()
    buffer.add_data(raw)

    assert [event.data.encode() for event in BinaryEventReader().feed(raw)] == [event.payload for event in buffer]


def test_headers_of_every_type_are_passed_over():
    flags = b"\x01a\x00\x01b\x01"
    numbers = b"\x01c\x02\x01\x01d\x03\x00\x01\x01e\x04\x00\x00\x00\x01\x01f\x05" + bytes(8) + b"\x01g\x08" + bytes(8)
    others = b"\x01h\x06\x00\x02xy\x01i\x09" + bytes(16)
    named = b"\x0b:event-type\x07\x00\x04last"

    assert BinaryEventReader().feed(packed(flags + numbers + others + named, b"{}")) == [ServerEvent("{}", "last")]


@pytest.mark.parametrize(
    ("kind", "code"),
    [("throttlingException", 429), ("modelTimeoutException", 408), ("validationException", 400), ("somethingNew", 502)],
)
def test_an_exception_is_an_error_in_openais_form(kind: str, code: int):
    (event,) = BinaryEventReader().feed(message({"message": "No."}, message_type="exception", exception_type=kind))

    assert json.loads(event.data) == {"error": {"message": "No.", "type": kind, "code": code}}


def test_an_error_of_the_stream_itself_is_one_too():
    raw = message({}, message_type="error", error_code="InternalError", error_message="Gone.")

    assert json.loads(BinaryEventReader().feed(raw)[0].data)["error"]["type"] == "InternalError"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"HTTP/1.1 200 OK\r\n", "the checksum of a prelude is wrong"),
        (message()[:-1] + b"\x00", "the checksum of a message is wrong"),
        (packed(b"\x09x", b""), "the headers of a message cannot be read"),
    ],
)
def test_what_is_no_message_is_an_error(raw: bytes, words: str):
    with pytest.raises(NotAnEvent, match=words):
        BinaryEventReader().feed(raw)


def test_a_message_that_is_too_large_is_refused_before_it_has_come():
    with pytest.raises(EventTooLarge, match="more than 20 bytes"):
        BinaryEventReader(max_event_bytes=20).feed(message()[:12])
