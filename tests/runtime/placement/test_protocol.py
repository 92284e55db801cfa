"""The state machines of a link: any order of what can happen leaves no call without its one outcome."""

from __future__ import annotations

import contextlib
import itertools

import hypothesis
import hypothesis.strategies as st
import pytest

from actors import InternalError, MessageTooLarge
from runtime.placement.frames import HEADER_BYTES, Frame, FrameBroken, FrameKind, FrameReader, written
from runtime.placement.protocol import CallCancelled, Called, End, Greeted, Noted, Peer, Settled

FRAMES = st.builds(
    Frame, st.sampled_from(list(FrameKind)), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=50)
)


def pair(window: float = 3) -> tuple[Peer, Peer]:
    """Two ends that have greeted each other."""
    owner, host = Peer(0.0, window=window), Peer(0.0)
    owner.greet(7)
    host.greet(7, b"secret")
    assert host.receive(owner.take_outgoing(), 0.0) == [Greeted(7, b"")]
    assert owner.receive(host.take_outgoing(), 0.0) == [Greeted(7, b"secret")]
    return owner, host


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0, 400), max_size=8))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(frames, cuts):
    data = b"".join(map(written, frames))
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reader = FrameReader()

    found = [frame for start, end in itertools.pairwise(places) for frame in reader.feed(data[start:end])]

    assert found == frames
    assert reader.is_between_frames


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.lists(FRAMES, min_size=1, max_size=4), st.data())
def test_a_truncated_frame_is_never_taken(frames, data):
    whole = b"".join(map(written, frames))
    end = data.draw(st.integers(0, len(whole) - 1))
    reader = FrameReader()

    found = reader.feed(whole[:end])

    assert found == frames[: len(found)]
    assert len(found) < len(frames)


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.binary(max_size=200))
def test_a_peer_that_gets_anything_at_all_takes_it_or_says_that_it_is_broken(data):
    peer, happenings = Peer(0.0), []
    with contextlib.suppress(FrameBroken):
        happenings = peer.receive(data, 1.0)

    assert all(isinstance(each, Greeted) for each in happenings[:1])
    assert peer.calls_out == 0


def test_a_body_over_the_limit_is_rejected_at_both_ends():
    with pytest.raises(MessageTooLarge, match=r"^a message to another process has 11 bytes; it may have 10\.\n  Fix: "):
        written(Frame(FrameKind.CALL, 1, 0, b"x" * 11), 10)
    with pytest.raises(FrameBroken, match=r"^a frame with a body of 11 bytes, where 10 are allowed$"):
        FrameReader(10).feed(written(Frame(FrameKind.CALL, 1, 0, b"x" * 11)))
    with pytest.raises(FrameBroken, match=r"^a frame of the unknown kind 99$"):
        FrameReader().feed(b"\0\0\0\0\x63" + b"\0" * (HEADER_BYTES - 5))


def test_the_first_word_is_the_greeting_and_calls_come_in_their_order():
    with pytest.raises(FrameBroken, match=r"^CALL came before HELLO$"):
        Peer(0.0).receive(written(Frame(FrameKind.CALL, 1)), 0.0)
    _, host = pair()
    host.receive(written(Frame(FrameKind.CALL, 5)), 0.0)
    with pytest.raises(FrameBroken, match=r"^call 5 came after call 5$"):
        host.receive(written(Frame(FrameKind.CALL, 5)), 0.0)
    with pytest.raises(FrameBroken, match=r"^a second HELLO came$"):
        host.receive(written(Frame(FrameKind.HELLO, 7)), 0.0)


def test_what_has_gathered_leaves_together_and_a_cancellation_overtakes():
    owner, host = pair()
    first = owner.call(b"first")
    assert host.receive(owner.take_outgoing(), 0.0) == [Called(first, 0, b"first")]

    second = owner.call(b"second")
    owner.note(b"note", about=3)
    third = owner.call(b"third")
    owner.beat()
    assert owner.cancel(first) is None

    assert host.receive(owner.take_outgoing(), 1.0) == [
        CallCancelled(first),
        Called(second, 0, b"second"),
        Noted(3, b"note"),
        Called(third, 0, b"third"),
    ]


def test_a_call_that_is_cancelled_before_it_leaves_never_leaves():
    owner, _ = pair()
    number = owner.call(b"never")

    assert owner.cancel(number) == Settled(number, End.ENDED, b"")
    assert owner.take_outgoing() == b""
    assert owner.calls_out == 0


def test_no_more_calls_than_the_window_are_out_except_those_about_a_call_of_the_other_side():
    owner, host = pair(window=1)
    number = owner.call(b"a")
    assert not owner.has_credit
    with pytest.raises(InternalError, match=r"^a call without credit: 1 of 1 are out"):
        owner.call(b"b")
    inner = owner.call(b"about it", about=4)
    host.receive(owner.take_outgoing(), 0.0)
    host.settle(number, End.VALUE, b"made")

    assert owner.receive(host.take_outgoing(), 0.0) == [Settled(number, End.VALUE, b"made")]
    assert (owner.has_credit, owner.calls_out) == (True, 1)
    host.settle(inner, End.VALUE)
    owner.receive(host.take_outgoing(), 0.0)
    assert owner.calls_out == 0


def test_an_answer_that_comes_twice_or_after_the_loss_changes_nothing():
    owner, host = pair()
    number = owner.call(b"a")
    host.receive(owner.take_outgoing(), 0.0)
    host.settle(number, End.VALUE, b"made")
    data = host.take_outgoing()

    assert len(owner.receive(data, 0.0)) == 1
    assert owner.receive(data, 0.0) == []
    assert owner.strays == 1
    assert owner.lose() == ()
    assert owner.receive(data, 5.0) == []
    assert owner.heard_at == 0.0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "cancel", "settle", "to host", "to owner", "again", "ask", "beat", "lose"]), st.integers(0, 5)
    ),
    max_size=60,
)


@hypothesis.given(STEPS, st.integers(1, 4))
def test_any_interleaving_gives_each_call_one_outcome_and_keeps_order_and_credit(steps, window):
    """Loss and duplicated bytes among it: the frames of a stream cannot be reordered, but a stream may end anywhere."""
    owner, host = pair(window)
    outcomes: dict[int, list[End | None]] = {}
    at_work: list[int] = []
    arrived: list[int] = []
    last = b""

    def to_owner(data: bytes) -> None:
        for each in owner.receive(data, 0.0):
            if isinstance(each, Settled):
                outcomes[each.id].append(each.end)

    def to_host(data: bytes) -> None:
        for each in host.receive(data, 0.0):
            if isinstance(each, Called):
                arrived.append(each.id)
                at_work.append(each.id)
            elif isinstance(each, CallCancelled):
                assert each.id in at_work
                at_work.remove(each.id)
                host.settle(each.id, End.ENDED)

    for step, which in steps:
        match step:
            case "call" if owner.has_credit:
                outcomes[owner.call(b"x")] = []
            case "cancel" if outcomes:
                number = sorted(outcomes)[which % len(outcomes)]
                settled = owner.cancel(number)
                if settled is not None:
                    outcomes[number].append(settled.end)
            case "settle" if at_work:
                host.settle(at_work.pop(which % len(at_work)), End.VALUE if which % 2 else End.ERROR)
            case "to host":
                to_host(owner.take_outgoing())
            case "to owner":
                last = host.take_outgoing()
                to_owner(last)
            case "again":
                if FrameKind.HELLO not in [frame.kind for frame in FrameReader().feed(last)]:
                    to_owner(last)
            case "beat":
                host.beat()
            case "lose":
                for number in owner.lose():
                    outcomes[number].append(None)
            case _:
                pass
        assert owner.calls_out <= window
    if not owner.is_lost:
        to_host(owner.take_outgoing())
        while at_work:
            host.settle(at_work.pop(), End.VALUE)
        to_owner(host.take_outgoing())

    assert all(len(found) == 1 for found in outcomes.values())
    assert owner.calls_out == 0
    assert arrived == sorted(set(arrived))
