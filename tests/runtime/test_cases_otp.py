"""More of Erlang/OTP's and Elixir's expectations: starts, dynamic children, reports, and the contract of caller and callee.

Each test bears the name of its case. Where this runtime deviates by design the docstring says how.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
from typing import Any

import attrs
import pytest
import trio

from actors import (
    Actor,
    ActorFailed,
    ActorStartFailed,
    ActorStopped,
    AutoShutdown,
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildSpec,
    DeclarationError,
    MailboxSpec,
    Overflow,
    StopReason,
    Supervision,
    Terminated,
    UsageError,
)
from runtime import ActorCrashed, ActorEnded, ActorRestarting, ActorStarted, Pool
from tests.runtime.cast import (
    EXACT,
    PATIENT,
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    Boom,
    Does,
    Echo,
    Fragile,
    Recorder,
    budget,
    cause_of,
    child,
    counts,
    crash,
    names,
    settled,
    stage,
    states,
)


class Declines(Recorder):
    """Starts, finds that there is nothing to do, and ends normally: what Erlang calls to ignore.

    From the incarnation number `from_incarnation` on; before, it stays.
    """

    def __init__(self, log, from_incarnation=1):
        super().__init__(log, "d")
        self.from_incarnation = from_incarnation

    @contextlib.asynccontextmanager
    async def lifespan(self):
        if self.context.incarnation >= self.from_incarnation:
            self.context.stop()
        async with super().lifespan():
            yield


# --- 1 starting -------------------------------------------------------------------------------------------------------


async def test_OTP_002_a_supervisor_with_nothing_to_do_ends_and_its_starter_goes_on(virtual_clock, log):
    """There is no answer "ignore": a supervisor whose significant child declines has started, and ends normally."""
    spec = ChildSpec("d", Declines, (log,), restart=TRANSIENT, significant=True)
    async with stage() as runtime:
        await runtime.supervise([spec], budget(2, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT), name="s", restart=TRANSIENT)
        await trio.sleep(0.1)

        assert names(log) == "d+ d-"
        assert [runtime.whereis("s"), runtime.whereis("s/d")] == [None, None]


@pytest.mark.parametrize(
    ("restart", "expected"),
    [
        pytest.param(TRANSIENT, [2, 1, 0, 2], id="OTP_003_kept"),
        pytest.param(TEMPORARY, [1, 1, 0, 1], id="OTP_004_temporary_is_not_stored"),
    ],
)
async def test_OTP_003_004_a_child_that_declines_at_the_start_of_its_supervisor(restart, expected, virtual_clock, log):
    """It is a transient child that may decline: a permanent one that ends is started again, whatever the reason."""
    children = [ChildSpec("d", Declines, (log,), restart=restart), child("a", log)]
    async with stage() as runtime:
        supervisor = await runtime.supervise(children, budget(2))
        await settled()

        assert await counts(supervisor) == expected


@pytest.mark.parametrize(
    ("restart", "expected"),
    [
        pytest.param(TEMPORARY, [1, 1, 0, 1], id="OTP_005_006_temporary"),
        pytest.param(TRANSIENT, [2, 1, 0, 2], id="OTP_007_kept"),
    ],
)
async def test_OTP_005_006_007_a_dynamic_child_that_declines(restart, expected, virtual_clock, log):
    """Dynamic children are treated like declared ones, so one that is not temporary is kept as stopped and can be restarted."""
    async with stage() as runtime:
        supervisor = await runtime.supervise([], budget(2), name="s")
        await supervisor.start_child(ChildSpec("d", Declines, (log,), restart=restart))
        await supervisor.start_child(child("a", log))
        await settled()

        assert await counts(supervisor) == expected
        await runtime.stop(supervisor)
        assert names(log) == "d+ d- a+ a-"


@pytest.mark.parametrize("garbage", [[Echo], ["a"], [None], [{"id": "a"}]])
async def test_OTP_008_children_that_are_no_specs_start_nothing(garbage, virtual_clock, log):
    events: list[Any] = []
    async with stage(instruments=[events.append]) as runtime:
        before = len(events)

        with pytest.raises(DeclarationError, match=r"^children: expected ChildSpec or supervisor_spec\(…\)\. Got: "):
            await runtime.supervise([child("a", log), *garbage], name="s")

        await trio.sleep(0.1)
        assert (log, runtime.whereis("s"), events[before:]) == ([], None, [])


@pytest.mark.parametrize("restart", [PERMANENT, TRANSIENT, TEMPORARY])
async def test_OTP_012_nothing_is_stored_of_a_dynamic_child_that_does_not_start(restart, virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], budget(2), name="s")

        with pytest.raises(ActorStartFailed) as caught:
            await supervisor.start_child(ChildSpec("a", Fragile, (log, [Boom("no")]), restart=restart))

        assert repr(cause_of(caught)) == "Boom('no')"
        assert await counts(supervisor) == [0, 0, 0, 0]


async def test_OTP_014_each_dynamic_child_is_described_with_its_defaults(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], name="s")
        refs = [await supervisor.start_child(child(child_id, log)) for child_id in ("a", "b", "c")]

        rows = [(info.ref, info.id, info.restart, info.significant) for info in await supervisor.which_children()]

        assert rows == [(ref, ref.address[-1], PERMANENT, False) for ref in reversed(refs)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factory": Echo}, r"^ChildSpec\(…\): 'id' is missing"),
        ({"id": "a"}, r"^ChildSpec\(…\): 'factory' is missing"),
        ({"id": "a", "factory": Echo, "colour": "red"}, r"^ChildSpec\(colour=…\): it has no field 'colour'"),
    ],
)
def test_OTP_015_faulty_child_specs(options, words):
    """An unknown option is refused, where OTP overlooks it: a misspelt one would be lost in silence."""
    with pytest.raises(DeclarationError, match=words):
        ChildSpec(**options)


# --- 2 stopping -------------------------------------------------------------------------------------------------------


class Leaves(Recorder):
    """Takes `linger_s` to clean up, and fails in the end if it is given an error."""

    def __init__(self, log, name="", linger_s=0.0, error=None):
        super().__init__(log, name)
        self.linger_s = linger_s
        self.error = error

    @contextlib.asynccontextmanager
    async def lifespan(self):
        try:
            yield
        finally:
            await trio.sleep(self.linger_s)
            self.note("-")
            if self.error is not None:
                raise self.error


async def test_OTP_018_sup_stop_timeout_dynamic(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([])
        await supervisor.start_child(ChildSpec("good", Leaves, (log, "good", 0.5), shutdown_s=1))
        await supervisor.start_child(ChildSpec("slow", Leaves, (log, "slow", 200.0), shutdown_s=1))

        await runtime.stop(supervisor)

        assert log == [(1.5, "good-")]


async def test_OTP_020_sup_stop_brutal_kill_dynamic(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([])
        for number in range(10):
            await supervisor.start_child(ChildSpec(f"a{number}", Leaves, (log, "a", 0.5), shutdown_s=0))

        await runtime.stop(supervisor)

        assert (log, trio.current_time()) == ([], 0)


@pytest.mark.parametrize("restart", [PERMANENT, TRANSIENT, TEMPORARY])
async def test_OTP_022_errors_of_children_that_are_stopped_disturb_nobody(restart, virtual_clock, log):
    errors = [Boom(), ValueError(), TimeoutError(), ExceptionGroup("", [Boom()])]
    async with stage() as runtime:
        supervisor = await runtime.supervise([], name="s")
        for number, error in enumerate(errors):
            await supervisor.start_child(ChildSpec(f"a{number}", Leaves, (log, f"{number}", 0, error), restart=restart))

        await runtime.stop(supervisor)

        assert names(log) == "3- 2- 1- 0-"
        assert runtime.whereis("s") is None


# --- 3 administration -------------------------------------------------------------------------------------------------


async def test_OTP_025_child_adm_simple(virtual_clock, log):
    """Children are named by their id, never by a ref; a ref of somewhere else is refused and what it names lives on."""
    async with stage() as runtime, stage() as elsewhere:
        supervisor = await runtime.supervise([], name="s")
        assert await counts(supervisor) == [0, 0, 0, 0]
        ref = await supervisor.start_child(child("a", log, restart=TEMPORARY))
        foreign = await elsewhere.spawn(Echo)

        with pytest.raises(UsageError, match=r"isn't a ref of this runtime\."):
            await runtime.stop(foreign)
        await supervisor.terminate_child("a")
        with pytest.raises(ChildNotFound, match=r"^supervisor 's' has no child 'a'\. It has: none\."):
            await supervisor.terminate_child("a")
        await runtime.stop(ref)

        assert await foreign.ask("alive") == "alive"


async def test_OTP_033_EX_09_dynamic_children_are_found_by_id_and_others_are_not(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], name="s")
        await supervisor.start_child(child("a", log))

        for call in (supervisor.terminate_child, supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(ChildNotFound) as caught:
                await call("b")
            assert caught.value.child_id == "b"
        await supervisor.terminate_child("a")

        assert await states(supervisor) == {"a": "stopped"}


# --- 5 strategies and intensity ---------------------------------------------------------------------------------------


async def test_OTP_055_the_third_death_of_dynamic_children_ends_their_supervisor(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], budget(2), name="s", restart=TRANSIENT)
        a = await supervisor.start_child(child("a", log))
        b = await supervisor.start_child(child("b", log))

        for victim in (a, b):
            await crash(victim)
        assert await counts(supervisor) == [2, 2, 0, 2]
        await crash(a)

        assert names(log) == "a+ b+ a- a+ b- b+ a- b-"
        assert runtime.whereis("s") is None


async def test_OTP_056_a_child_that_declines_when_it_is_restarted(virtual_clock, log):
    """It is kept as stopped, where OTP removes it; and a permanent one spends the budget, as every end of it does."""
    async with stage() as runtime:
        supervisor = await runtime.supervise([], budget(10), name="s")
        ref = await supervisor.start_child(ChildSpec("d", Declines, (log, 2), restart=TRANSIENT))

        await crash(ref)

        assert names(log) == "d+ d- d+ d-"
        assert await states(supervisor) == {"d": "stopped"}


async def test_OTP_058_EX_03_arguments_reach_every_incarnation(virtual_clock):
    async def tell_extra(actor, message):
        if message is Boom:
            raise Boom
        return actor.extra

    class Extra(Does):
        def __init__(self, handle, *extra):
            super().__init__(handle)
            self.extra = extra

    async with stage(supervision=PATIENT) as runtime:
        supervisor = await runtime.supervise([], PATIENT)
        ref = await supervisor.start_child(ChildSpec("a", Extra, (tell_extra, "more", 2)))
        assert await ref.ask("extra") == ("more", 2)
        ref.tell_nowait(Boom)

        assert await ref.ask("extra") == ("more", 2)


async def test_OTP_059_failing_restarts_of_a_dynamic_child_exhaust_the_budget(virtual_clock, log):
    failures: list[BaseException] = []
    async with stage() as runtime:
        supervisor = await runtime.supervise([], budget(4), name="s", restart=TRANSIENT)
        ref = await supervisor.start_child(ChildSpec("a", Fragile, (log, failures)))
        failures.extend(Boom() for _ in range(10))

        await crash(ref)

        assert names(log) == "+ - ! ! ! !"
        assert runtime.whereis("s") is None


async def calls_to_start_and_stop(number: int) -> int:
    """How many function calls it takes to start and stop so many temporary children."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    async with stage() as runtime:
        supervisor = await runtime.supervise([], name="s")
        sys.setprofile(count)
        try:
            for _ in range(number):
                await supervisor.start_child(ChildSpec(f"a{_}", Echo, restart=TEMPORARY))
            await runtime.stop(supervisor)
        finally:
            sys.setprofile(None)
    return calls


async def test_OTP_069_070_the_work_to_start_and_stop_children_grows_with_their_number_only(virtual_clock):
    """Counted, not timed: the same on every machine."""
    few = await calls_to_start_and_stop(50)
    many = await calls_to_start_and_stop(500)

    assert many / few < 11


# --- 8, 9 flags, code change and reports ------------------------------------------------------------------------------


def test_OTP_079_flags_cannot_be_changed_under_a_running_supervisor():
    """There is no change of flags at run time; what a supervisor was started with holds until its end."""
    supervision = Supervision()

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        supervision.auto_shutdown = AutoShutdown.ANY_SIGNIFICANT  # type: ignore[misc]


async def test_OTP_080_a_new_spec_comes_by_replacing_the_child(virtual_clock, log):
    """There is no change of code at run time: a faulty spec leaves the child as it is, a good one takes its place."""
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log)], budget(2), name="s")

        with pytest.raises(DeclarationError):
            await supervisor.start_child(ChildSpec("a", Recorder, (log,), shutdown_s=-1))
        assert await states(supervisor) == {"a": "running"}
        await supervisor.terminate_child("a")
        await supervisor.delete_child("a")
        await supervisor.start_child(ChildSpec("a", Recorder, (log, "new"), restart=TRANSIENT))

        assert names(log) == "a+ a- new+"
        assert [info.restart for info in await supervisor.which_children()] == [TRANSIENT]


async def test_OTP_081_reports_are_events_with_child_reason_and_what_follows(virtual_clock, log):
    events: list[Any] = []
    error = Boom("why")
    async with stage(instruments=[events.append]) as runtime:
        await runtime.supervise([ChildSpec("a", Fragile, (log, []))], budget(1, backoff=EXACT), name="s")
        events.clear()
        runtime.whereis("s/a").tell_nowait(("raise", error))
        await trio.sleep(2)

    kinds = (ActorCrashed, ActorRestarting, ActorStarted, ActorEnded)
    assert [event for event in events if isinstance(event, kinds) and event.address == "s/a"] == [
        ActorCrashed(at_s=0.0, address="s/a", incarnation=1, error=error, while_starting=False),
        ActorRestarting(at_s=0.0, address="s/a", incarnation=1, delay_s=1.0, restarts=1),
        ActorStarted(at_s=1.0, address="s/a", incarnation=2),
        ActorEnded(at_s=2.0, address="s/a", incarnation=2, reason=StopReason.STOPPED),
    ]


# --- 10 caller and callee ---------------------------------------------------------------------------------------------


class SlowToStart(Actor):
    @contextlib.asynccontextmanager
    async def lifespan(self):
        await trio.sleep(10)
        yield

    async def receive(self, message):
        return message


async def test_OTP_082_a_name_starts_once_and_a_start_out_of_time_leaves_nothing(virtual_clock):
    async with stage() as runtime:
        await runtime.spawn(Echo, name="a")

        with pytest.raises(ChildAlreadyStarted, match=r"already has 'a', which is running\."):
            await runtime.spawn(Echo, name="a")
        with pytest.raises(trio.TooSlowError), trio.fail_after(1):
            await runtime.spawn(SlowToStart, name="b")

        assert trio.current_time() == 1
        assert list(runtime.statistics().actors) == ["a"]


async def test_OTP_085_crash_reports_are_for_crashes_and_the_last_message_is_in_the_dead_letter(virtual_clock, log):
    crashes: list[Any] = []

    def instrument(event):
        if isinstance(event, ActorCrashed):
            crashes.append((event.address, repr(event.error)))

    async with stage(instruments=[instrument]) as runtime:
        stopped = await runtime.spawn(Recorder, log, restart=TEMPORARY)
        await runtime.stop(stopped)
        finished = await runtime.spawn(Recorder, log, restart=TEMPORARY)
        await finished.ask(("stop",))
        assert crashes == []

        failed = await runtime.spawn(Echo, name="failed", restart=TEMPORARY)
        asker = await runtime.spawn(Does, lambda actor, message: failed.ask(message), name="asker", restart=TEMPORARY)
        asker.tell_nowait(Boom("last"))
        await settled()

        letter = runtime.dead_letters[0]
        assert crashes[0] == ("failed", "Boom('last')")
        assert (letter.recipient, letter.sender, repr(letter.message)) == ("failed", "asker", "Boom('last')")


class NotAsync(Actor):
    def receive(self, message: Any) -> Any:
        return "no coroutine"


class SeeminglyAsync(Actor):
    """Wrapped, so that nothing is known of it before it is called."""

    @functools.wraps(Echo.receive)
    def receive(self, message: Any) -> Any:  # type: ignore[override]
        return "no coroutine"


async def test_OTP_089_a_handler_that_returns_nothing_to_wait_for_fails_and_its_caller_is_told(virtual_clock):
    """Every value is a possible reply, so the value that is wrong is one that cannot be awaited."""
    async with stage() as runtime:
        with pytest.raises(DeclarationError, match=r"^spawn\(NotAsync\): receive\(\) of NotAsync is a plain def"):
            await runtime.spawn(NotAsync)
        ref = await runtime.spawn(SeeminglyAsync, restart=TEMPORARY)

        with pytest.raises(ActorFailed) as caught:
            await ref.ask("?")

        assert isinstance(cause_of(caught), TypeError)
        with pytest.raises(ActorStopped):
            await ref.ask("again")


@pytest.mark.parametrize("overflow", [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST])
async def test_OTP_090_a_tell_to_the_dead_is_silent_and_one_that_drops_never_blocks(overflow, virtual_clock, log):
    """Whether a tell to the living blocks is for the mailbox to say: ``BLOCK``, the default, does when it is full."""
    async with stage() as runtime:
        dead = await runtime.spawn(Echo)
        await runtime.stop(dead)
        busy = await runtime.spawn(Recorder, log, mailbox=MailboxSpec(1, overflow))
        busy.tell_nowait(("sleep", 5))
        await settled()

        await dead.tell("anybody?")
        for number in range(4):
            await busy.tell(number)

        assert trio.current_time() == 0
        assert [letter.reason.value for letter in runtime.dead_letters] == ["stopped"] + ["overflow"] * 3
        assert runtime.whereis("nobody") is None


async def test_OTP_091_a_message_that_no_branch_knows_is_received_and_life_goes_on(virtual_clock):
    """All messages come to ``receive``; there is no second handler, and falling through it answers None."""

    async def knows_one(actor, message):
        match message:
            case "known":
                return "yes"

    async with stage() as runtime:
        ref = await runtime.spawn(Does, knows_one)
        await ref.tell("unknown")

        assert [await ref.ask("unknown"), await ref.ask("known")] == [None, "yes"]
        assert (ref.statistics().incarnation, ref.statistics().handled, list(runtime.dead_letters)) == (1, 3, [])


class Continues(Recorder):
    """Has work to do after its start that nobody need wait for."""

    @contextlib.asynccontextmanager
    async def lifespan(self):
        self.context.ref.tell_nowait(("sleep", 5))
        async with super().lifespan():
            yield


async def test_OTP_093_what_an_actor_tells_itself_while_it_starts_comes_before_all_others(virtual_clock, log):
    """After a restart what waits already comes first; work that must precede that too belongs into the lifespan itself."""
    async with stage() as runtime:
        ref = await runtime.spawn(Continues, log)
        assert trio.current_time() == 0  # the start did not wait for it

        await ref.tell("first of the others")
        await trio.sleep(10)

    assert log[:2] == [(0.0, "+"), (5.0, "first of the others")]


async def test_OTP_094_a_live_actor_can_be_looked_at(virtual_clock, log):
    """Its state is its own; what it does, waits for and has done is anybody's to see, without a message to it."""
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, log, name="a")
        ref.tell_nowait("x")
        ref.tell_nowait(("sleep", 5))
        await settled()
        ref.tell_nowait("waits")

        seen = ref.statistics()

        assert (seen.state, seen.incarnation, seen.handled, seen.mailbox.depth) == ("running", 1, 1, 1)
        assert str(runtime.tree()) == "(root) [supervisor, running, incarnation 1]\n  a [actor, running, incarnation 1]"


async def test_OTP_096_a_lifespan_may_be_missing_and_a_receive_may_not(virtual_clock):
    class NoReceive(Actor):
        pass

    async with stage() as runtime:
        assert await (await runtime.spawn(Echo)).ask("no lifespan") == "no lifespan"

        with pytest.raises(DeclarationError, match=r"^spawn\(NoReceive\): NoReceive has no receive\(\)"):
            await runtime.spawn(NoReceive)


# --- 11 Elixir --------------------------------------------------------------------------------------------------------


def test_EX_01_defaults():
    assert (Supervision().max_restarts, Supervision().within_s, ChildSpec("a", Echo).args) == (3, 5.0, ())


async def test_EX_02_a_child_that_waits_for_its_restart_counts_and_keeps_its_id(virtual_clock, log):
    """It counts for ``max_children`` too: see ``tests/regressions``."""
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log)], budget(5, backoff=EXACT), name="s")
        await crash(runtime.whereis("s/a"))

        assert await counts(supervisor) == [1, 0, 0, 1]
        with pytest.raises(ChildAlreadyPresent, match=r"already has 'a', which is being restarted\."):
            await supervisor.start_child(child("a", log))


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (lambda log: child("a", log), "ok"),
        (lambda log: ChildSpec("a", Fragile, (log, [Boom("no")])), "Boom('no')"),
        (lambda log: ChildSpec("a", lambda: {"no": "actor"}), "DeclarationError"),  # type: ignore[arg-type, return-value]
        (lambda log: ChildSpec("a", Declines, (log,), restart=TEMPORARY), "ok"),
    ],
)
async def test_EX_04_what_start_child_answers(spec, kind, virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], budget(2))
        try:
            await supervisor.start_child(spec(log))
            outcome = "ok"
        except ActorStartFailed as error:
            outcome = repr(error.__cause__)

        assert outcome.startswith(kind)


@pytest.mark.parametrize(
    "options",
    [
        {"id": 1},
        {"id": ""},
        {"id": "a/b"},
        {"factory": "no"},
        {"restart": "permanent"},
        {"shutdown_s": -1},
        {"shutdown_s": "brutal"},
        {"significant": True},
        {"mailbox": 64},
    ],
)
def test_EX_06_invalid_specs_are_refused(options):
    with pytest.raises(DeclarationError):
        ChildSpec(**{"id": "a", "factory": Echo, **options})


async def test_EX_11_names_are_unique_and_gone_before_the_news_of_the_end(virtual_clock):
    """A name has one actor; many actors under one key is what subscribing to a type of message is for."""
    heard: list[Any] = []
    listened: list[Any] = []

    def listen(event):
        if isinstance(event, ActorStarted | ActorEnded) and event.address == "a":
            listened.append(type(event).__name__)

    async def watch(actor, message):
        if isinstance(message, Terminated):
            heard.append((message.reason, runtime.whereis("a")))
        else:
            actor.context.watch(message)

    async with stage(instruments=[listen]) as runtime:
        ref = await runtime.spawn(Echo, name="a")
        watcher = await runtime.spawn(Does, watch)
        await watcher.ask(ref)
        await runtime.stop(ref)
        await settled()

    assert (heard, listened) == ([(StopReason.STOPPED, None)], ["ActorStarted", "ActorEnded"])


class Works(Actor):
    """Starts the task that it is sent: beside itself (``link``), or as an actor of its own (``nolink``)."""

    async def receive(self, message):
        match message:
            case ("link", task):
                self.context.nursery.start_soon(task)
            case ("nolink", task):
                ref = await self.context.spawn(Does, lambda actor, _: task(), restart=TEMPORARY)
                ref.tell_nowait("begin")
            case _:
                return self.context.incarnation


@pytest.mark.parametrize(("how", "incarnation"), [("link", 2), ("nolink", 1)])
async def test_EX_12_a_task_fails_its_starter_only_if_it_is_linked(how, incarnation, virtual_clock):
    async def fail():
        raise Boom

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Works)
        await ref.tell((how, fail))
        await settled()

        assert await ref.ask("which?") == incarnation


async def test_EX_12_a_stream_of_tasks_keeps_its_order_and_its_bound(virtual_clock):
    """A pool of n works on n at once; answers stand where their questions stood."""
    at_once = most = 0

    async def work(actor, number):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await trio.sleep(10 - number)
        at_once -= 1
        return number * number

    answers: dict[int, int] = {}
    async with stage() as runtime:
        pool = await runtime.spawn(Pool(ChildSpec("w", Does, (work,)), 3))

        async def ask(number):
            answers[number] = await pool.ask(number)

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(ask, number)

    assert ([answers[number] for number in range(6)], most) == ([0, 1, 4, 9, 16, 25], 3)


trail: contextvars.ContextVar[str] = contextvars.ContextVar("trail", default="(none)")


async def test_EX_13_spawned_work_carries_the_context_of_its_spawner(virtual_clock):
    async def look(actor, message):
        if message == "spawn":
            trail.set("set by the parent")
            ref = await actor.context.spawn(Does, look)
            return [await ref.ask("look"), await ref.ask("parent")]
        return trail.get() if message == "look" else actor.context.parent

    async with stage() as runtime:
        ref = await runtime.spawn(Does, look)

        assert await ref.ask("spawn") == ["set by the parent", ref]
        assert trail.get() == "(none)"
