"""Who may dial in to a runtime, and what becomes of everybody else. Over the loopback, with real sockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from actors import UsageError
from runtime.placement.host.dialling import FIRST, MARK, DialTicket, StrangerAnswered, dialled, first_words
from runtime.placement.host.main import dialled_stream
from runtime.placement.ray.certificates import own_certificate
from runtime.placement.ray.reception import MAX_STRANGERS, Reception, opened_reception

ENCRYPTED = pytest.mark.parametrize("tls", [True, False])
LIMIT_S = 60


@contextlib.asynccontextmanager
async def reception(tls: bool = True) -> AsyncIterator[Reception]:
    with trio.fail_after(LIMIT_S):
        async with opened_reception("127.0.0.1", 0, "127.0.0.1", own_certificate() if tls else None) as opened:
            yield opened
            for stream in streams:
                await trio.aclose_forcefully(stream)


streams: list[trio.abc.Stream] = []


async def dial(ticket: DialTicket) -> trio.abc.Stream:
    streams.append(await dialled_stream(ticket))
    return streams[-1]


async def connect(port: int) -> trio.abc.Stream:
    streams.append(await trio.open_tcp_stream("127.0.0.1", port))
    return streams[-1]


@pytest.fixture(autouse=True)
def forget() -> None:
    streams.clear()


async def is_hung_up(stream: trio.abc.Stream) -> bool:
    with trio.fail_after(LIMIT_S):
        try:
            return await stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            return True


@ENCRYPTED
async def test_who_has_a_ticket_is_let_in_once(tls):
    async with reception(tls) as opened:
        with opened.expect() as caller:
            stream = await dial(caller.ticket)
            await caller.arrival()
            taken = caller.take()
            assert taken is not None
            await taken.send_all(b"welcome")
            assert await stream.receive_some(7) == b"welcome"

            assert await is_hung_up(await dial(caller.ticket))

        assert await is_hung_up(stream)  # nobody waits for it any more
        assert opened.strangers == 0


@ENCRYPTED
async def test_a_guardian_dials_without_an_event_loop(tls):
    async with reception(tls) as opened:
        with opened.expect() as caller:
            with await trio.to_thread.run_sync(dialled, caller.ticket) as control:
                await caller.arrival()
                taken = caller.take()
                assert taken is not None
                control.sendall(b"r")
                assert await taken.receive_some(1) == b"r"


@ENCRYPTED
async def test_a_ticket_is_of_no_use_when_nobody_waits(tls):
    async with reception(tls) as opened:
        with opened.expect() as caller:
            pass

        assert await is_hung_up(await dial(caller.ticket))


@pytest.mark.parametrize("wrong", [{"secret": "00" * 32}, {"number": 77}])
async def test_who_says_something_else_is_hung_up_on(wrong: Any):
    async with reception() as opened:
        with opened.expect() as caller:
            ticket: Any = {**caller.ticket, **wrong}

            assert await is_hung_up(await dial(ticket))

            await dial(caller.ticket)  # and who has the ticket is let in, still
            await caller.arrival()


async def test_another_protocol_is_hung_up_on():
    async with reception(tls=False) as opened:
        with opened.expect() as caller:
            stream = await connect(opened.port)
            await stream.send_all(FIRST.pack(b"http", caller.ticket["number"], bytes.fromhex(caller.ticket["secret"])))

            assert await is_hung_up(stream)


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 4096, b"\x16\x03\x01\xff\xff" + b"\xff" * 70000])
async def test_bytes_that_are_no_handshake_end_their_connection_only(words):
    async with reception() as opened:
        stream = await connect(opened.port)
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(words)
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some(4096):
                pass  # an alert

        with opened.expect() as caller:
            await dial(caller.ticket)
            await caller.arrival()


@ENCRYPTED
async def test_who_says_nothing_is_hung_up_on_after_ten_seconds(tls, autojump_clock):
    async with reception(tls) as opened:
        stream = await connect(opened.port)
        while not opened.strangers:
            await trio.lowlevel.checkpoint()
        began = trio.current_time()

        assert await is_hung_up(stream)

        assert trio.current_time() - began == pytest.approx(10)


async def test_many_strangers_keep_nobody_out():
    """The one that has waited for longest goes, and whoever knows what to say is quicker than that."""
    async with reception() as opened:
        first = await connect(opened.port)
        for _ in range(MAX_STRANGERS):
            await connect(opened.port)

        assert await is_hung_up(first)
        with opened.expect() as caller:
            await dial(caller.ticket)
            await caller.arrival()
        assert opened.strangers <= MAX_STRANGERS


@pytest.mark.parametrize("of", ["host", "guardian"])
async def test_nobody_else_is_told_the_secret(of):
    """Somebody listens at the address of a runtime that has ended, with a certificate of his own."""
    heard: list[bytes] = []
    other = own_certificate()

    async def listen(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, other.context, server_side=True, https_compatible=True)
        with contextlib.suppress(trio.BrokenResourceError):
            heard.append(bytes(await secured.receive_some(FIRST.size)))

    async with reception() as opened, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, listen, [listener])
        with opened.expect() as caller:
            ticket: DialTicket = {**caller.ticket, "port": listener.socket.getsockname()[1]}
            with pytest.raises(StrangerAnswered, match="answered with another certificate than the runtime's"):
                await (dialled_stream(ticket) if of == "host" else trio.to_thread.run_sync(dialled, ticket))
        nursery.cancel_scope.cancel()

    assert [words for words in heard if words] == []


async def test_what_is_said_cannot_be_read_on_the_way():
    heard = bytearray()

    async def pass_on(stream: trio.SocketStream) -> None:
        further = await connect(opened.port)
        async with trio.open_nursery() as both:

            async def back() -> None:
                while data := await further.receive_some():
                    await stream.send_all(data)

            both.start_soon(back)
            while data := await stream.receive_some():
                heard.extend(data)
                await further.send_all(data)

    async with reception() as opened, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, pass_on, [listener])
        with opened.expect() as caller:
            await dial({**caller.ticket, "port": listener.socket.getsockname()[1]})
            await caller.arrival()
        nursery.cancel_scope.cancel()

    assert len(heard) > FIRST.size
    assert MARK not in heard
    assert first_words(caller.ticket)[-32:] not in heard


async def test_the_secret_is_in_no_text():
    async with reception() as opened:
        with opened.expect() as caller:
            assert caller.ticket["secret"] not in repr(caller)


async def test_an_address_of_another_machine_is_named():
    with pytest.raises(UsageError) as failure:
        async with opened_reception("192.0.2.77", 0, "192.0.2.77", None):
            pass

    assert "this process cannot listen on 192.0.2.77:0 for its hosts: " in str(failure.value)
    assert "Fix: listen='ADDRESS'" in str(failure.value)


def test_two_certificates_are_different():
    assert own_certificate().fingerprint != own_certificate().fingerprint
