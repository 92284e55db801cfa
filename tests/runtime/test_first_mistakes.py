"""The mistakes of the first hour: each raises where it is made, with exactly this message, which ends with the line to write."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import attrs
import pytest

from actors import (
    Actor,
    ActorFailed,
    ActorStartFailed,
    ChildSpec,
    DeclarationError,
    Graph,
    MailboxSpec,
    Redelivery,
    Strategy,
    Supervision,
    UsageError,
)
from runtime import Pool, open_runtime


@attrs.frozen
class Ask:
    text: str


@attrs.frozen
class Answer:
    text: str


class Ledger(Actor):
    def __init__(self, opening: int, limit: int = 10) -> None:
        self.total = opening

    async def receive(self, message: Any) -> Any:
        return self.total


class Echo(Actor):
    async def receive(self, message: Any) -> Any:
        return message


class Sync(Actor):
    def receive(self, message: Any) -> Any:
        return message


class Yields(Actor):
    async def receive(self, message: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        yield message


class Deaf(Actor):
    async def recieve(self, message: Any) -> Any:
        return message


class Silent(Actor):
    pass


class Bare(Actor):
    async def receive(self) -> Any:  # type: ignore[override]
        return None


class Greedy(Actor):
    async def receive(self, message: Any, sender: Any) -> Any:  # type: ignore[override]
        return message


class Named(Actor):
    def __init__(self, *, opening: int) -> None:
        self.total = opening

    async def receive(self, message: Any) -> Any:
        return message


class Eager(Actor):
    def __init__(self) -> None:
        self.me = self.context.ref

    async def receive(self, message: Any) -> Any:
        return message


class Undecorated(Echo):
    async def lifespan(self) -> AsyncIterator[None]:  # type: ignore[override]
        yield


class Coroutine(Echo):
    async def lifespan(self) -> None:  # type: ignore[override]
        return None


class Blocking(Echo):
    @contextmanager
    def lifespan(self) -> Iterator[None]:  # type: ignore[override]
        yield


class Unyielding(Echo):
    @asynccontextmanager  # type: ignore[arg-type]
    async def lifespan(self) -> None:
        return None


class Wrapped(Echo):
    def lifespan(self) -> Any:
        return 3


class NoActor:
    async def receive(self, message: Any) -> Any:
        return message


class Becomes(Actor):
    async def receive(self, message: Any) -> Any:
        self.context.become(self.later)

    def later(self, message: Any) -> Any:
        return message


class Forgets(Actor):
    def __init__(self, other: Any) -> None:
        self.other = other

    async def receive(self, message: Any) -> Any:
        return self.other.ask(message)


async def async_factory() -> Echo:
    return Echo()


def forgets_to_return() -> Echo:
    return cast("Echo", None)


def returns_the_class() -> Echo:
    return cast("Echo", Echo)


def at(function: Any) -> str:
    """Where `function` is, as messages show it."""
    code = getattr(function, "__wrapped__", function).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def row(mistake: Any, message: str) -> tuple[Any, str]:
    """A row of the tables below; a call, so that its text may stand on several lines."""
    return mistake, message


LIFESPAN = "@contextlib.asynccontextmanager above async def lifespan(self), with one yield in it."
OPTIONS = "name, restart, mailbox, redelivery, shutdown_s, idle_timeout_s, place"
FIELDS = "id, factory, args, restart, shutdown_s, significant, mailbox, redelivery, idle_timeout_s, place"

SPAWN: list[tuple[Any, str]] = [
    # --- what is spawned ------------------------------------------------------------------------------------------------
    row(
        lambda r: r.spawn(cast("Any", Echo())),
        "spawn(<Echo instance>): an instance would be shared by all incarnations.\n"
        "  Fix: pass the class or a function that makes one, spawn(Echo, …).",
    ),
    row(
        lambda r: r.spawn(cast("Any", NoActor)),
        "spawn(NoActor): the class NoActor does not derive from Actor.\n  Fix: class NoActor(Actor):",
    ),
    row(
        lambda r: r.spawn(cast("Any", dict)),
        "spawn(dict): the class dict does not derive from Actor.\n"
        "  Fix: pass a class that does, or a function that makes an actor.",
    ),
    row(
        lambda r: r.spawn(cast("Any", "ledger"), Ledger),
        "spawn('ledger'): expected an Actor class or a function that returns a new Actor.\n  Fix: spawn(Ledger, name='ledger').",
    ),
    row(
        lambda r: r.spawn(cast("Any", None)),
        "spawn(None): expected an Actor class or a function that returns a new Actor.\n"
        "  Fix: pass an Actor class or a function that returns a new Actor as 'factory'.",
    ),
    row(
        lambda r: r.spawn(cast("Any", async_factory)),
        f"spawn(async_factory): the factory async_factory is async, and a factory is called, not awaited ({at(async_factory)}).\n"
        "  Fix: def async_factory(…); what has to wait goes into the actor's lifespan().",
    ),
    row(
        lambda r: r.spawn(cast("Any", async_factory())),
        "spawn(<coroutine>): the factory was called, and what it returned is a coroutine.\n"
        "  Fix: pass the class or the function itself, and make it a plain def: spawn(async_factory).",
    ),
    # --- its methods ----------------------------------------------------------------------------------------------------
    row(
        lambda r: r.spawn(Sync),
        f"spawn(Sync): receive() of Sync is a plain def, and its result is awaited ({at(Sync.receive)}).\n"
        "  Fix: async def receive(self, message): …",
    ),
    row(
        lambda r: r.spawn(Yields),
        f"spawn(Yields): receive() of Yields yields, and a message has one answer ({at(Yields.receive)}).\n"
        "  Fix: return the answer; or tell() the items to the actor that wants them.",
    ),
    row(
        lambda r: r.spawn(cast("Any", Deaf)),
        "spawn(Deaf): Deaf has no receive(), which handles its messages.\n  Fix: rename recieve() to receive().",
    ),
    row(
        lambda r: r.spawn(cast("Any", Silent)),
        "spawn(Silent): Silent has no receive(), which handles its messages.\n  Fix: async def receive(self, message): …",
    ),
    row(
        lambda r: r.spawn(Bare),
        f"spawn(Bare): receive() of Bare is called with one message, and takes (self) ({at(Bare.receive)}).\n"
        "  Fix: async def receive(self, message): …",
    ),
    row(
        lambda r: r.spawn(Greedy),
        "spawn(Greedy): receive() of Greedy is called with one message, and takes (self, message, sender) "
        f"({at(Greedy.receive)}).\n"
        "  Fix: async def receive(self, message): … with one message that has what it needs as its fields.",
    ),
    row(
        lambda r: r.spawn(Undecorated),
        f"spawn(Undecorated): lifespan() of Undecorated returns no async context manager ({at(Undecorated.lifespan)}).\n"
        f"  Fix: {LIFESPAN}",
    ),
    row(
        lambda r: r.spawn(Coroutine),
        f"spawn(Coroutine): lifespan() of Coroutine returns no async context manager ({at(Coroutine.lifespan)}).\n"
        f"  Fix: {LIFESPAN}",
    ),
    row(
        lambda r: r.spawn(Blocking),
        f"spawn(Blocking): lifespan() of Blocking isn't an async generator ({at(Blocking.lifespan)}).\n  Fix: {LIFESPAN}",
    ),
    row(
        lambda r: r.spawn(Unyielding),
        f"spawn(Unyielding): lifespan() of Unyielding isn't an async generator ({at(Unyielding.lifespan)}).\n  Fix: {LIFESPAN}",
    ),
    # --- its arguments --------------------------------------------------------------------------------------------------
    row(
        lambda r: r.spawn(Ledger),
        "spawn(Ledger): Ledger(opening, limit=10) needs opening, which is missing.\n  Fix: spawn(Ledger, opening)",
    ),
    row(
        lambda r: r.spawn(Ledger, 1, 2, 3),
        "spawn(Ledger, …): Ledger(opening, limit=10) takes 2 arguments, and 3 came.\n  Fix: spawn(Ledger, opening, limit)",
    ),
    row(
        lambda r: r.spawn(Echo, 1),
        "spawn(Echo, …): Echo has no __init__ and takes no arguments, and 1 came.\n  Fix: spawn(Echo), or give Echo an __init__.",
    ),
    row(
        lambda r: r.spawn(Named),
        "spawn(Named): Named(*, opening) takes 'opening' by name only, and arguments are passed by position.\n"
        "  Fix: spawn(functools.partial(Named, opening=…))",
    ),
    row(
        lambda r: r.spawn(functools.partial(Ledger, 1), 2, 3),
        "spawn(Ledger, …): Ledger(opening, limit=10) takes 2 arguments, and 3 came.\n  Fix: spawn(Ledger, opening, limit)",
    ),
    row(
        lambda r: r.spawn(Ledger, r.spawn(Echo)),
        "spawn(Ledger): one of its arguments is a coroutine that was not awaited.\n  Fix: pass await runtime.spawn(…).",
    ),
    # --- its options ----------------------------------------------------------------------------------------------------
    row(
        lambda r: cast("Any", r).spawn(Echo, retries=2),
        f"spawn(retries=…): it has no option 'retries'. Expected one of: {OPTIONS}.\n"
        "  Fix: write redelivery=Redelivery(max_attempts=…).",
    ),
    row(
        lambda r: cast("Any", r).spawn(Echo, capacity=2),
        f"spawn(capacity=…): it has no option 'capacity'. Expected one of: {OPTIONS}.\n  Fix: write mailbox=MailboxSpec(…).",
    ),
    row(
        lambda r: cast("Any", r).spawn(Echo, max_restarts=2),
        f"spawn(max_restarts=…): it has no option 'max_restarts'. Expected one of: {OPTIONS}.\n"
        "  Fix: write runtime.supervise([ChildSpec(…)], Supervision(…)); it belongs to the supervisor.",
    ),
    row(
        lambda r: cast("Any", r).spawn(Echo, mailboxes=2),
        f"spawn(mailboxes=…): it has no option 'mailboxes'. Expected one of: {OPTIONS}.\n  Fix: write 'mailbox'.",
    ),
    row(
        lambda r: cast("Any", r).spawn(Ledger, opening=2),
        f"spawn(opening=…): it has no option 'opening'. Expected one of: {OPTIONS}.\n"
        "  Fix: spawn(Ledger, …): its arguments go by position; or spawn(functools.partial(Ledger, opening=…)).",
    ),
    row(
        lambda r: r.spawn(Echo, mailbox=cast("Any", 10)),
        "spawn(mailbox=10): expected a MailboxSpec.\n  Fix: mailbox=MailboxSpec(capacity=10).",
    ),
    row(
        lambda r: r.spawn(Echo, mailbox=cast("Any", MailboxSpec)),
        "spawn(mailbox=<class 'actors.mailbox.MailboxSpec'>): expected a MailboxSpec.\n  Fix: mailbox=MailboxSpec(…).",
    ),
    row(
        lambda r: r.spawn(Echo, redelivery=cast("Any", 3)),
        "spawn(redelivery=3): expected a Redelivery.\n  Fix: redelivery=Redelivery(max_attempts=3).",
    ),
    row(
        lambda r: r.spawn(Echo, restart=cast("Any", "permanent")),
        "spawn(restart='permanent'): expected a RestartType.\n  Fix: restart=RestartType.PERMANENT.",
    ),
    row(
        lambda r: r.spawn(Echo, restart=cast("Any", "always")),
        "spawn(restart='always'): expected a RestartType.\n  Fix: pass a RestartType as 'restart'.",
    ),
    # --- specs, pools, graphs -------------------------------------------------------------------------------------------
    row(
        lambda r: r.supervise([cast("Any", Echo)]),
        f"children: expected ChildSpec or supervisor_spec(…). Got: {Echo!r}.\n  Fix: ChildSpec('echo', Echo).",
    ),
    row(
        lambda r: r.supervise(cast("Any", ChildSpec("echo", Echo))),
        "children: expected a list of specs. Got: ChildSpec('echo', …).\n  Fix: put it in a list, [ChildSpec('echo', …)].",
    ),
    row(
        lambda r: r.supervise([], cast("Any", Strategy.ONE_FOR_ALL)),
        "SupervisorSpec(supervision=<Strategy.ONE_FOR_ALL: 'one_for_all'>): expected a Supervision.\n"
        "  Fix: supervision=Supervision(strategy=Strategy.ONE_FOR_ALL).",
    ),
]


def added(what: Any, **options: Any) -> None:
    Graph("g", input=Ask, output=Answer).add(what, takes=Ask, returns=Answer, **options)


WRITE: list[tuple[Any, str]] = [
    row(
        lambda: ChildSpec("a", cast("Any", Echo())),
        "ChildSpec(factory=<Echo instance>): an instance would be shared by all incarnations.\n"
        "  Fix: pass the class or a function that makes one, ChildSpec('a', Echo, args=(…,)).",
    ),
    row(
        lambda: ChildSpec("a", Sync),
        f"ChildSpec(factory=Sync): receive() of Sync is a plain def, and its result is awaited ({at(Sync.receive)}).\n"
        "  Fix: async def receive(self, message): …",
    ),
    row(
        lambda: ChildSpec("a", Ledger),
        "ChildSpec(factory=Ledger): Ledger(opening, limit=10) needs opening, which is missing.\n"
        "  Fix: ChildSpec('a', Ledger, args=(opening,))",
    ),
    row(
        lambda: ChildSpec("a", Ledger, args=(1, 2, 3)),
        "ChildSpec(factory=Ledger, …): Ledger(opening, limit=10) takes 2 arguments, and 3 came.\n"
        "  Fix: ChildSpec('a', Ledger, args=(opening, limit))",
    ),
    row(
        lambda: ChildSpec("a", Ledger, args=cast("Any", 3)),
        "ChildSpec(args=3): expected a tuple of the arguments.\n  Fix: args=(3,).",
    ),
    row(
        lambda: ChildSpec("a", Ledger, args="abc"),
        "ChildSpec(args='abc'): expected a tuple of the arguments.\n  Fix: args=('abc',).",
    ),
    row(lambda: cast("Any", ChildSpec)(Echo), "ChildSpec(…): 'factory' is missing.\n  Fix: ChildSpec('echo', Echo)."),
    row(
        lambda: ChildSpec(cast("Any", Echo), cast("Any", "echo")),
        f"ChildSpec(id={Echo!r}): expected a name first.\n  Fix: ChildSpec('echo', Echo).",
    ),
    row(
        lambda: cast("Any", ChildSpec)("a", Echo, max_retries=2),
        f"ChildSpec(max_retries=…): it has no field 'max_retries'. It has: {FIELDS}.\n"
        "  Fix: write redelivery=Redelivery(max_attempts=…).",
    ),
    row(
        lambda: Supervision(backoff=cast("Any", 1)),
        "Supervision(backoff=1): expected a Backoff.\n  Fix: backoff=Backoff(first_s=1).",
    ),
    row(
        lambda: Redelivery(backoff=cast("Any", 0.5)),
        "Redelivery(backoff=0.5): expected a Backoff.\n  Fix: backoff=Backoff(first_s=0.5).",
    ),
    row(
        lambda: Supervision(strategy=cast("Any", "one-for-all")),
        "Supervision(strategy='one-for-all'): expected a Strategy.\n  Fix: strategy=Strategy.ONE_FOR_ALL.",
    ),
    row(
        lambda: MailboxSpec(overflow=cast("Any", "drop_oldest")),
        "MailboxSpec(overflow='drop_oldest'): expected an Overflow.\n  Fix: overflow=Overflow.DROP_OLDEST.",
    ),
    row(
        lambda: ChildSpec("a", Echo, mailbox=cast("Any", -1)),
        "ChildSpec(mailbox=-1): expected a MailboxSpec.\n  Fix: pass a MailboxSpec as 'mailbox'.",
    ),
    row(
        lambda: Pool(cast("Any", Echo), 4),
        f"Pool(spec={Echo!r}): expected a ChildSpec.\n  Fix: Pool(ChildSpec('echo', Echo), 4).",
    ),
    row(
        lambda: cast("Any", Pool)(ChildSpec("a", Echo)),
        "Pool(…): 'size' is missing.\n  Fix: Pool(ChildSpec('worker', Worker), 4), for four of them.",
    ),
    row(
        lambda: cast("Any", Pool)(ChildSpec("a", Echo), workers=4),
        "Pool(workers=…): it has no field 'workers'. It has: spec, size, routing.\n  Fix: write size=….",
    ),
    row(
        lambda: Pool(ChildSpec("a", Echo), 4, cast("Any", "round_robin")),
        "Pool(routing='round_robin'): expected a Routing.\n  Fix: routing=Routing.ROUND_ROBIN.",
    ),
    row(
        lambda: added(Sync),
        f"add(Sync) ({{here}}): receive() of Sync is a plain def, and its result is awaited ({at(Sync.receive)}).\n"
        "  Fix: async def receive(self, message): …",
    ),
    row(
        lambda: added(Echo()),
        "add(<Echo instance>) ({here}): an instance would be shared by all incarnations.\n"
        "  Fix: pass the class or a function that makes one, add(Echo, …).",
    ),
    row(
        lambda: added(Ledger),
        "add(Ledger) ({here}): Ledger(opening, limit=10) needs opening, which is missing.\n  Fix: add(Ledger, opening)",
    ),
    row(
        lambda: added(async_factory),
        "add(async_factory) ({here}): the factory async_factory is async, and a factory is called, not awaited "
        f"({at(async_factory)}).\n  Fix: def async_factory(…); what has to wait goes into the actor's lifespan().",
    ),
]


@pytest.mark.parametrize(("mistake", "message"), SPAWN)
async def test_a_mistake_in_a_call_raises_at_the_call_and_starts_nothing(autojump_clock, mistake, message):
    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError) as caught:
            await mistake(runtime)
        assert len(runtime.statistics().actors) == 0

    assert str(caught.value) == message


@pytest.mark.parametrize(("mistake", "message"), WRITE)
def test_a_mistake_in_a_declaration_raises_where_it_is_written(mistake, message):
    with pytest.raises(DeclarationError) as caught:
        mistake()

    here = f"{__file__}:{added.__code__.co_firstlineno + 1}"
    assert str(caught.value) == message.replace("{here}", here)


START: list[tuple[Any, str]] = [
    row(
        Eager,
        "'a' did not start: UsageError: Eager.__init__ uses self.context, which the runtime sets only after it.\n"
        "  Fix: do it in lifespan(), which runs before the first message, or when a message comes.\n"
        f"  at {__file__}:{Eager.__init__.__code__.co_firstlineno + 1} in __init__",
    ),
    row(
        forgets_to_return,
        "'a' did not start: DeclarationError: the factory of 'a' returned NoneType, expected an Actor.\n"
        "  Fix: return the actor at the end of the factory.",
    ),
    row(
        returns_the_class,
        "'a' did not start: DeclarationError: the factory of 'a' returned the class Echo, expected an Actor.\n"
        "  Fix: pass the class itself as the factory, or return Echo(…).",
    ),
    row(
        lambda: async_factory(),
        "'a' did not start: DeclarationError: the factory of 'a' returned a coroutine, expected an Actor.\n"
        "  Fix: let it be a plain def that returns the actor; what has to wait goes into its lifespan().",
    ),
    row(
        lambda: Sync(),
        f"'a' did not start: DeclarationError: 'a': receive() of Sync is a plain def, and its result is awaited "
        f"({at(Sync.receive)}).\n  Fix: async def receive(self, message): …",
    ),
    row(
        Wrapped,
        "'a' did not start: DeclarationError: lifespan() of Wrapped returned int, expected an async context manager.\n"
        f"  Fix: {LIFESPAN}",
    ),
]


@pytest.mark.parametrize(("factory", "message"), START)
async def test_a_mistake_that_only_a_start_can_show_fails_the_start_with_one_fix(autojump_clock, factory, message):
    async with open_runtime() as runtime:
        with pytest.raises(ActorStartFailed) as caught:
            await runtime.spawn(factory, name="a")
        assert len(runtime.statistics().actors) == 0

    assert str(caught.value) == message


USE: list[tuple[Any, str]] = [
    row(lambda r, ref: ref.tell(ref.ask(1)), "the message is a coroutine that was not awaited.\n  Fix: await ref.ask(…)."),
    row(lambda r, ref: ref.ask(ref.ask(1)), "the message is a coroutine that was not awaited.\n  Fix: await ref.ask(…)."),
    row(
        lambda r, ref: r.stop(r.spawn(Echo)),
        "a coroutine that was not awaited isn't a ref of this runtime.\n  Fix: ref = await runtime.spawn(…).",
    ),
    row(
        lambda r, ref: r.task(async_factory()),
        "task(<coroutine>): expected an async function.\n  Fix: task(async_factory, *args): pass it, do not call it.",
    ),
]


@pytest.mark.parametrize(("mistake", "message"), USE)
async def test_a_call_that_was_not_awaited_is_named_where_it_is_passed_on(autojump_clock, mistake, message):
    async with open_runtime() as runtime:
        ref = await runtime.spawn(Echo, name="echo")
        with pytest.raises(UsageError) as caught:
            await mistake(runtime, ref)

    assert str(caught.value) == message


async def test_a_coroutine_is_told_apart_in_calls_that_do_not_wait(autojump_clock):
    async with open_runtime() as runtime:
        ref = await runtime.spawn(Echo, name="echo")
        with pytest.raises(UsageError, match=r"^the message is a coroutine that was not awaited"):
            ref.tell_nowait(ref.ask(1))
        with pytest.raises(UsageError, match=r"Fix: ref = await runtime\.spawn\(…\)\.$"):
            runtime.subscribe(str, cast("Any", runtime.spawn(Echo)))


async def test_an_answer_that_was_not_awaited_fails_the_ask_and_the_actor_goes_on(autojump_clock):
    async with open_runtime() as runtime:
        ref = await runtime.spawn(Forgets, await runtime.spawn(Echo), name="a")
        await ref.tell("y")
        with pytest.raises(ActorFailed):
            await ref.ask("x")
        with pytest.raises(ActorFailed) as caught:
            await ref.ask("x")
        assert ref.statistics().restarts == 0

    assert [(letter.reason.value, letter.message) for letter in runtime.dead_letters] == [("failed", "y")]
    assert str(caught.value.__cause__) == (
        "the answer of 'a' to a str message is a coroutine that was not awaited.\n  Fix: await ref.ask(…)."
    )


async def test_becoming_a_plain_function_is_refused_at_once(autojump_clock):
    async with open_runtime() as runtime:
        ref = await runtime.spawn(Becomes, name="a")
        with pytest.raises(ActorFailed) as caught:
            await ref.ask("x")

    assert str(caught.value.__cause__) == (
        f"become(later) of 'a': the handler is a plain def, and its result is awaited ({at(Becomes.later)}).\n"
        "  Fix: async def …(message) for what it becomes."
    )


async def test_a_task_with_the_wrong_arguments_is_refused_at_the_call(autojump_clock):
    async def fetch(url: str) -> str:
        return url

    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError) as caught:
            await runtime.task(cast("Any", fetch), "a", "b")

    assert str(caught.value) == "task(fetch, …): fetch(url) takes 1 argument, and 2 came.\n  Fix: task(fetch, url)"


async def test_a_run_on_a_coroutine_names_the_call_to_await(autojump_clock):
    graph = Graph("g", input=Ask, output=Answer)
    graph.add(Echo, takes=Ask, returns=Answer)

    async with open_runtime() as runtime:
        with pytest.raises(DeclarationError) as caught:
            await runtime.run(graph, async_factory())  # type: ignore[misc]  # so do type checkers

    assert str(caught.value) == (
        "graph 'g' takes Ask as its input. Got: a coroutine.\n  Fix: run(graph, await async_factory(…))."
    )


class Partly(Echo):
    """What must go on to work: methods that are no plain coroutine functions, and constructors of other kinds."""

    def receive(self, message: Any) -> Any:
        return super().receive(message)

    receive.__annotations__["return"] = "Coroutine[Any, Any, Any]"


class Many(Echo):
    def __init__(self, *values: int, **options: int) -> None:
        self.values = values


@attrs.define
class Fielded(Echo):
    opening: int
    limit: int = 3


class Made(Echo):
    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls)


class Callable_:
    def __call__(self, opening: int) -> Actor:
        return Ledger(opening)


@pytest.mark.parametrize(
    ("factory", "args"),
    [
        (Partly, ()),
        (Many, (1, 2, 3)),
        (Fielded, (1,)),
        (Fielded, (1, 2)),
        (Made, ()),
        (Callable_(), (1,)),
        (functools.partial(Ledger, limit=3), (1,)),
        (functools.partial(Named, opening=1), ()),
        (lambda *args: Ledger(*args), (1, 2)),
    ],
)
async def test_unusual_factories_that_can_make_an_actor_start(autojump_clock, factory, args):
    async with open_runtime() as runtime:
        ref = await runtime.spawn(factory, *args)
        await ref.ask("x")
