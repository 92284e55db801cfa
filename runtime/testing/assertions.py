"""Assertions on what is left: no task that outlives its owner, no message that is lost or handled twice."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any, TypeVar, final

import trio

from actors.words import repr_of
from runtime.app import Runtime
from runtime.core.stacks import stack_of
from runtime.testing.schedules.taps import Handler, tap

M = TypeVar("M")


@contextlib.contextmanager
def no_orphans() -> Generator[None]:
    """Assert that the block leaves no task behind that was not there before.

    Raises:
        AssertionError: it does; it names each and shows where it is. Not raised over an error of the block itself.
    """
    before = set(_all_tasks())
    yield
    left = [task for task in _all_tasks() if task not in before]
    if left:
        stacks = "\n".join(f"{task.name}:\n{stack_of(task)}" for task in left)
        raise AssertionError(f"{len(left)} task(s) outlive the block: {', '.join(task.name for task in left)}\n{stacks}")


def _all_tasks() -> Iterator[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        yield task
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


@final
class MessageLedger:
    """Follows messages from the test to their end. Make it before the actors that handle them are spawned.

    Messages are distinguished by identity, so equal ones count as many.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._sent: list[Any] = []
        self._begun: Counter[int] = Counter()
        self._handled: Counter[int] = Counter()
        tap(runtime, self._tap)

    def sent(self, message: M) -> M:
        """Enter `message` and return it: ``await ref.tell(ledger.sent(message))``."""
        self._sent.append(message)
        return message

    def _tap(self, address: str, handler: Handler) -> Handler:
        async def handle(message: Any) -> Any:
            self._begun[id(message)] += 1
            answer = await handler(message)
            self._handled[id(message)] += 1
            return answer

        return handle

    def accounts(self) -> dict[str, list[Any]]:
        """The messages sent, by what happened to them: ``handled``, ``dead``, ``twice`` (more than one of these), ``lost``."""
        dead = Counter(id(letter.message) for letter in self._runtime.dead_letters)
        accounts: dict[str, list[Any]] = {"handled": [], "dead": [], "twice": [], "lost": []}
        for message in self._sent:
            ends = self._handled[id(message)] + dead[id(message)]
            if ends > 1:
                accounts["twice"].append(message)
            elif not ends:
                accounts["lost"].append(message)
            else:
                accounts["dead" if dead[id(message)] else "handled"].append(message)
        return accounts


def assert_conserved(ledger: MessageLedger) -> None:
    """Assert that every message sent was handled once or became one dead letter. Call it when the runtime is at rest.

    Raises:
        AssertionError: some were lost, or ended twice; it lists them.
    """
    accounts = ledger.accounts()
    if accounts["lost"] or accounts["twice"]:
        counts = ", ".join(f"{len(messages)} {end}" for end, messages in accounts.items())
        lines = [f"  {end}: {repr_of(message)}" for end in ("lost", "twice") for message in accounts[end]]
        raise AssertionError("\n".join([f"messages are not conserved: {counts}", *lines]))
