"""What a guardian and its runtime say to each other comes in whatever pieces the stream makes of it."""

from __future__ import annotations

import json
import signal
import socket

import pytest
import trio
import trio.testing

from runtime.placement.guardian_line import KILL, GuardianLine
from runtime.placement.host import guardian
from runtime.placement.host.guardian import ENDED, RUNS

ENDS = {
    0: "its process ended with exit code 0",
    3: "its process ended with exit code 3",
    120: "its process ended with exit code 120",  # whose byte is that of the word
    0x78787878: f"its process ended with exit code {0x78787878}",
    -signal.SIGKILL: "its process was ended by SIGKILL",
    -99: "its process was ended by signal 99",
}


@pytest.mark.parametrize("signs", [0, 1, 4, 9])
@pytest.mark.parametrize("code", ENDS)
async def test_the_end_of_a_host_is_read_in_any_pieces(code, signs, autojump_clock):
    said = RUNS * signs + ENDED + code.to_bytes(4, "big", signed=True)
    for cut in range(len(said) + 1):
        for second in range(cut, len(said) + 1):
            near, far = trio.testing.memory_stream_pair()
            async with trio.open_nursery() as nursery:

                async def say(pieces: list[bytes], far: trio.abc.Stream = far) -> None:
                    for piece in filter(None, pieces):
                        await far.send_all(piece)
                        await trio.testing.wait_all_tasks_blocked()

                nursery.start_soon(say, [said[:cut], said[cut:second], said[second:]])
                assert (await GuardianLine(near, 10.0).carry()).how == ENDS[code]


async def test_a_line_that_ends_in_the_middle_of_that_is_the_end_of_the_guardian(autojump_clock):
    near, far = trio.testing.memory_stream_pair()
    await far.send_all(RUNS + ENDED + b"\0")
    await far.aclose()

    assert (await GuardianLine(near, 10.0).carry()).how == "its guardian ended"


def test_a_wish_for_the_end_that_comes_with_the_first_line_is_heard():
    """The runtime may have given a host up before its guardian has read anything."""
    here, there = socket.socketpair()
    told = {"flags": [], "path": [], "silent_after_s": 60.0}
    with here, there:
        here.sendall(json.dumps(told).encode() + b"\n" + KILL)
        guardian.guard(there)

        assert here.recv(64) == ENDED + (-signal.SIGKILL).to_bytes(4, "big", signed=True)
