"""How a planned reply goes out: whole, event by event, or the way its scripted failure bends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import attrs
import trio

from runtime.testing.models.http_server import HttpConnection
from runtime.testing.models.provider_script import Failure, RequestPlan
from runtime.testing.models.recording import RequestRecord

GARBAGE: Final = b"<html><head><title>Not what you asked for</title></head><body>\x00\xff</body></html>"


@final
@attrs.frozen
class WireReply:
    """A response as it would go out if nothing failed."""

    status: int
    headers: Mapping[str, str]
    pieces: list[bytes]
    """The body; for a stream, one piece per event."""
    streamed: bool = False
    """Whether it goes out chunk by chunk instead of with a content length."""


async def deliver(wire: HttpConnection, record: RequestRecord, plan: RequestPlan, reply: WireReply) -> None:
    """Send `reply` as `plan` says and note status and first byte in `record`.

    On return either the response is complete, or the connection is in the middle of one and must be closed.

    Raises:
        trio.BrokenResourceError: the client has gone.
    """
    kind = None if plan.failure is None else plan.failure.kind
    if kind == "disconnect":
        return
    if kind == "garbage":
        reply = WireReply(200, {**reply.headers, "content-type": "text/html"}, [GARBAGE])
    elif kind == "truncated_json":
        reply = attrs.evolve(reply, pieces=cut_json(reply))
    record.status = reply.status
    record.first_byte_s = trio.current_time()
    if kind == "disconnect_mid_body":
        await _send_half(wire, reply)
    elif kind == "slow_body" and plan.failure is not None:
        await _send_slowly(wire, reply, plan.failure)
    elif reply.streamed:
        await _send_pieces(wire, reply, reply.pieces, plan.interval_s)
    else:
        await wire.send(reply.status, reply.headers, b"".join(reply.pieces))


def cut_json(reply: WireReply) -> list[bytes]:
    """The body cut within its JSON; of a stream, the first event and half of the second, ended like an event."""
    if not reply.streamed:
        body = b"".join(reply.pieces)
        return [body[: len(body) // 2]]
    second = reply.pieces[1]
    return [reply.pieces[0], second[: len(second) // 2] + b"\n\n"]


async def _send_pieces(wire: HttpConnection, reply: WireReply, pieces: list[bytes], interval_s: float) -> None:
    # The first piece leaves immediately and the end of the body with the last one, so n pieces take n - 1 intervals.
    wire.begin(reply.status, _framed(reply))
    for index, piece in enumerate(pieces):
        if index and interval_s:
            await trio.sleep(interval_s)
        if index < len(pieces) - 1:
            await wire.send_piece(piece)
        else:
            await wire.finish(piece)


async def _send_slowly(wire: HttpConnection, reply: WireReply, failure: Failure) -> None:
    body, step = b"".join(reply.pieces), failure.piece_bytes
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    await _send_pieces(wire, reply, pieces, failure.interval_s)


async def _send_half(wire: HttpConnection, reply: WireReply) -> None:
    body = b"".join(reply.pieces)
    wire.begin(reply.status, _framed(reply))
    await wire.send_piece(body[: len(body) // 2])


def _framed(reply: WireReply) -> dict[str, str]:
    """The headers, with the body's length when it is known beforehand; h11 sends the rest in chunks."""
    if reply.streamed:
        return dict(reply.headers)
    return {**reply.headers, "content-length": str(sum(len(piece) for piece in reply.pieces))}
