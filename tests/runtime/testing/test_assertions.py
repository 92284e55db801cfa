from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from actors import Actor
from runtime import open_runtime
from runtime.testing import FaultPlan, MessageLedger, assert_conserved, no_orphans


@attrs.frozen
class Note:
    number: int


class Listener(Actor):
    async def receive(self, message: Note) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_task_that_outlives_its_block_is_named_with_its_stack(nursery: trio.Nursery) -> None:
    watch = no_orphans()
    watch.__enter__()
    nursery.start_soon(trio.sleep_forever, name="forgotten")
    await trio.lowlevel.checkpoint()

    with pytest.raises(AssertionError) as caught:
        watch.__exit__(None, None, None)

    assert str(caught.value).startswith("1 task(s) outlive the block: forgotten\nforgotten:\n  File ")
    nursery.cancel_scope.cancel()


async def test_a_block_that_cleans_up_passes() -> None:
    with no_orphans():
        async with open_runtime() as runtime:
            await runtime.spawn(Listener)


async def test_handled_and_dead_messages_are_conserved(virtual_clock: trio.testing.MockClock) -> None:
    async with open_runtime() as runtime:
        ledger = MessageLedger(runtime)
        listener = await runtime.spawn(Listener, name="listener")
        await listener.tell(ledger.sent(Note(1)))
        await trio.testing.wait_all_tasks_blocked()
        await runtime.stop(listener)
        await listener.tell(ledger.sent(Note(2)))

        assert_conserved(ledger)

    assert ledger.accounts() == {"handled": [Note(1)], "dead": [Note(2)], "twice": [], "lost": []}


async def test_a_lost_and_a_doubled_message_are_listed(virtual_clock: trio.testing.MockClock) -> None:
    async with open_runtime() as runtime:
        ledger = MessageLedger(runtime)
        FaultPlan().duplicate("listener", on_message=2).install(runtime)
        listener = await runtime.spawn(Listener, name="listener")
        ledger.sent(Note(1))
        await listener.tell(Note(0))
        twice = ledger.sent(Note(2))
        await listener.tell(twice)
        await listener.tell(twice)
        await trio.testing.wait_all_tasks_blocked()

        with pytest.raises(AssertionError) as caught:
            assert_conserved(ledger)

    assert str(caught.value) == (
        "messages are not conserved: 0 handled, 0 dead, 1 twice, 1 lost\n  lost: Note(number=1)\n  twice: Note(number=2)"
    )
