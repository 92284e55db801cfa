"""What a supervisor in a trio program must do beyond OTP; each test bears the name of its case."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import math
import random
import weakref
from typing import Any, cast

import pytest
import trio
import trio.testing

from actors import ActorFailed, ActorStopped, Backoff, ChildSpec, RestartsExhausted, Supervision, UsageError, supervisor_spec
from actors.groups import leaves_of
from runtime import ActorCrashed, ActorRestarting, ActorUnresponsive
from runtime.core.incarnation import ExitKind, classify
from tests.runtime.cast import AT_ONCE, PATIENT, Boom, Does, Echo, Recorder, cause_of, child, names, stage


class Lifelong(Recorder):
    """Its clean-up takes a while."""

    @contextlib.asynccontextmanager
    async def lifespan(self):
        self.note("+")
        try:
            yield
        finally:
            self.note("-")
            await trio.sleep(1)
            self.note("gone")


async def test_TR_01_a_cancellation_from_outside_restarts_nothing_and_stops_in_reverse_order(virtual_clock, log):
    crashes = []

    def instrument(event):
        if isinstance(event, ActorCrashed | ActorRestarting):
            crashes.append(event)

    with trio.move_on_after(5) as scope:
        async with stage(instruments=[instrument]) as runtime:
            for name in "abc":
                ref = await runtime.spawn(Lifelong, log, name, name=name)
                ref.tell_nowait(("sleep", 100))
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert names(log) == "a+ b+ c+ c- cgone b- bgone a- agone"
    assert log[3:] == [(5, "c-"), (6, "cgone"), (6, "b-"), (7, "bgone"), (7, "a-"), (8, "agone")]
    assert crashes == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("wrapped", [False, True])
async def test_TR_02_interrupts_end_the_tree_in_order_and_come_out_once(kind, wrapped, virtual_clock, log):
    with pytest.raises(kind) as caught:  # noqa: PT012 - it comes out of the end of the block
        async with stage(supervision=PATIENT) as runtime:
            await runtime.supervise([child("a", log), child("b", log)], PATIENT, name="s")
            ref = await runtime.spawn(Recorder, log, "c", name="c")
            error = kind("stop")
            ref.tell_nowait(("raise", BaseExceptionGroup("", [error, Boom()]) if wrapped else error))
            await trio.sleep(100)

    assert caught.value is error
    assert names(log) == "a+ b+ c+ c- b- a-"
    assert trio.current_time() == 0


async def test_TR_02_an_interrupt_during_the_stop_is_not_lost(virtual_clock):
    class Interrupted(Echo):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            yield
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with stage() as runtime:
            await runtime.supervise([ChildSpec("a", Interrupted)])


async def test_TR_02_an_interrupt_out_of_an_actor_comes_before_what_the_body_raises(virtual_clock):
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes out of the end of the block
        async with stage() as runtime:
            ref = await runtime.spawn(Echo)
            ref.tell_nowait(KeyboardInterrupt())
            try:
                await trio.sleep_forever()
            finally:
                raise Boom


async def test_TR_03_groups_are_judged_by_their_leaves(virtual_clock):
    cancelled: Any = None
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as caught:
            cancelled = caught
    boom = Boom()

    def judge(error):
        found = classify(error, "a")
        return found.kind, list(leaves_of(cast("BaseException", found.error)))

    assert judge(BaseExceptionGroup("", [cancelled, boom])) == (ExitKind.FAILED, [boom])
    assert judge(BaseExceptionGroup("", [BaseExceptionGroup("", [cancelled]), boom])) == (ExitKind.FAILED, [boom])
    interrupt = KeyboardInterrupt()
    assert judge(BaseExceptionGroup("", [cancelled, boom, interrupt])) == (ExitKind.FATAL, [interrupt])
    stale = classify(cancelled, "a")
    assert (stale.kind, type(stale.error)) == (ExitKind.FAILED, UsageError)
    del cancelled, stale


async def test_TR_03_a_group_out_of_an_actor_counts_as_one_failure(virtual_clock):
    async def fail(actor, message):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raise_boom)
            nursery.start_soon(trio.sleep_forever)

    async def raise_boom():
        raise Boom("inside")

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Does, fail)
        with pytest.raises(ActorFailed) as caught:
            await ref.ask("go")

        assert [repr(leaf) for leaf in leaves_of(cause_of(caught))] == ["Boom('inside')"]
        assert ref.statistics().restarts == 1


async def test_TR_05_clean_up_is_shielded_and_bounded(virtual_clock, log):
    class Endless(Recorder):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            try:
                yield
            finally:
                self.note("-")
                try:
                    await trio.sleep_forever()
                finally:
                    self.note("cut")

    async with stage() as runtime:
        ref = await runtime.spawn(Endless, log, shutdown_s=2)
        ref.tell_nowait(("sleep", 100))
        await trio.testing.wait_all_tasks_blocked()
        await runtime.stop(ref)

    assert log == [(2.0, "-"), (4.0, "cut")]


async def test_TR_06_a_child_that_will_not_go_is_reported_with_its_stack_and_waited_for(virtual_clock):
    reports = []

    def instrument(event):
        if isinstance(event, ActorUnresponsive):
            reports.append((event.at_s, event.address, "sleep_in_a_shield" in event.stack))

    async def sleep_in_a_shield(actor, message):
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    async with stage(instruments=[instrument]) as runtime:
        ref = await runtime.spawn(Does, sleep_in_a_shield, name="deaf", shutdown_s=2)
        ref.tell_nowait("go")
        await trio.testing.wait_all_tasks_blocked()
        await runtime.stop(ref)

        assert trio.current_time() == 60
    assert reports == [(5.0, "deaf", True)]


async def test_TR_08_all_asks_of_an_actor_that_will_not_come_back_end_in_the_same_instant(virtual_clock):
    ends = []

    async def ask(ref):
        with pytest.raises((ActorFailed, ActorStopped)) as caught:
            await ref.ask(Boom())
        ends.append((trio.current_time(), type(caught.value).__name__))

    async with stage() as runtime:
        ref = await runtime.spawn(Echo, restart=child("x", []).restart.TEMPORARY)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask, ref)

    assert sorted(ends) == [(0.0, "ActorFailed")] + [(0.0, "ActorStopped")] * 4


REQUEST = contextvars.ContextVar("REQUEST", default="none")


async def test_TR_09_an_actor_runs_in_the_context_of_its_declaration_in_every_incarnation(virtual_clock):
    async def handle(actor, message):
        if message == "set":
            REQUEST.set("changed by a handler")
            raise Boom
        return REQUEST.get()

    async with stage(supervision=PATIENT) as runtime:
        REQUEST.set("of the declaration")
        ref = await runtime.spawn(Does, handle)
        REQUEST.set("later")
        ref.tell_nowait("set")

        assert await ref.ask("get") == "of the declaration"


async def test_TR_11_a_thousand_restarts_take_exactly_the_sum_of_their_delays(virtual_clock):
    delays = []

    def instrument(event):
        if isinstance(event, ActorRestarting):
            delays.append(event.delay_s)

    backoff = Backoff(first_s=0.25, factor=2, cap_s=4, jitter=0.5)
    supervision = Supervision(max_restarts=math.inf, backoff=backoff)
    async with stage(seed=7, supervision=supervision, instruments=[instrument]) as runtime:
        ref = await runtime.spawn(Echo)
        for _ in range(1000):
            with pytest.raises(ActorFailed):
                await ref.ask(Boom())
        await ref.ask("up again")

        assert len(delays) == 1000
        rng = random.Random(7)
        assert delays == [backoff.delay_s(attempt, rng) for attempt in range(1000)]
        total = 0.0
        for delay_s in delays:
            total += delay_s
        assert trio.current_time() == total


async def test_TR_12_runtimes_side_by_side_in_any_nursery(virtual_clock):
    answers = []

    async def one(name):
        async with stage() as runtime:
            ref = await runtime.spawn(Echo, name="same")
            answers.append(await ref.ask(name))

    async with trio.open_nursery(strict_exception_groups=True) as nursery:
        for name in ("first", "second"):
            nursery.start_soon(one, name)

    assert sorted(answers) == ["first", "second"]


async def test_a_ref_of_another_runtime_is_refused(virtual_clock):
    async with stage() as one, stage() as other:
        ref = await one.spawn(Echo, name="a")

        with pytest.raises(UsageError) as caught:
            await other.stop(ref)

    assert str(caught.value) == (
        "<ActorRef 'a' running> isn't a ref of this runtime.\n  Fix: pass what spawn() or supervise() returned."
    )


@pytest.mark.not_explored("a thousand restarts")
async def test_a_thousand_restarts_leave_nothing_behind(virtual_clock):
    incarnations = []

    class Heavy(Echo):
        def __init__(self):
            self.ballast = bytearray(1000)
            incarnations.append(weakref.ref(self))

        async def receive(self, message):
            if message == "fail":
                raise Boom

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Heavy)
        depths = []
        error = trace = None
        for _ in range(1000):
            with pytest.raises(ActorFailed) as caught:
                await ref.ask("fail")
            error, depth = cause_of(caught), 0
            del caught
            trace = error.__traceback__
            while trace is not None:
                trace, depth = trace.tb_next, depth + 1
            assert error.__context__ is None
            depths.append(depth)
        await ref.ask("up")
        error = trace = None
        gc.collect()

        assert len(incarnations) == 1001
        assert sum(known() is not None for known in incarnations) == 1
        assert len(set(depths)) == 1


async def test_told_messages_that_crash_their_actor_keep_no_incarnation_alive(virtual_clock):
    incarnations = []

    class Heavy(Echo):
        def __init__(self):
            incarnations.append(weakref.ref(self))

        async def receive(self, message):
            if message == "fail":
                raise Boom

    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Heavy)
        for _ in range(100):
            await ref.tell("fail")
        await ref.ask("up")
        gc.collect()

        assert sum(known() is not None for known in incarnations) == 1
        assert len(runtime.dead_letters) == 100


async def test_a_child_that_fails_while_its_siblings_start_is_restarted(virtual_clock, log):
    class SlowStart(Recorder):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            await trio.sleep(5)
            self.note("+")
            yield

    class EarlyDeath(Recorder):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            self.note("+")
            if self.context.incarnation == 1:
                self.context.nursery.start_soon(self.die)
            yield

        async def die(self):
            await trio.sleep(1)
            raise Boom

    children = [ChildSpec("a", EarlyDeath, (log, "a")), ChildSpec("b", SlowStart, (log, "b"))]
    async with stage() as runtime:
        await runtime.supervise(children, PATIENT)

        assert log == [(0, "a+"), (1, "a+"), (5, "b+")]


async def test_a_supervisor_that_fails_while_its_children_start_does_not_wait_for_them(virtual_clock):
    class SlowStart(Echo):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            await trio.sleep(50)
            yield

    class EarlyDeath(Echo):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            self.context.nursery.start_soon(self.die)
            yield

        async def die(self):
            raise Boom("early")

    children = [ChildSpec("a", EarlyDeath), ChildSpec("b", SlowStart)]
    async with stage() as runtime:
        with pytest.raises(Exception, match=r"gave up: 's/a' needed restart number 1") as caught:
            await runtime.supervise(children, Supervision(max_restarts=0), name="s")

        assert isinstance(caught.value.__cause__, RestartsExhausted)
        assert trio.current_time() == 0


async def test_a_nested_supervisor_is_restarted_with_its_declared_children_and_their_mailboxes(virtual_clock, log):
    inner = supervisor_spec("inner", [child("a", log)], Supervision(max_restarts=0, backoff=AT_ONCE))
    slow = Supervision(backoff=Backoff(first_s=10, jitter=0))
    async with stage() as runtime:
        await runtime.supervise([inner], slow, name="s")
        ref = runtime.whereis("s/inner/a")
        ref.tell_nowait(("raise", Boom()))
        await trio.testing.wait_all_tasks_blocked(0.001)

        assert await ref.ask("kept") == "kept"

        assert trio.current_time() == 10
        assert runtime.whereis("s/inner/a") is ref
