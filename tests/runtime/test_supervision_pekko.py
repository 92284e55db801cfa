"""Pekko's expectations of supervision, restated; each test bears the name of its case."""

from __future__ import annotations

import contextlib
import math
import random

import pytest
import trio
import trio.testing

from actors import (
    ActorFailed,
    ActorStopped,
    Backoff,
    ChildSpec,
    Directive,
    Exhausted,
    MailboxSpec,
    Overflow,
    Redelivery,
    RestartType,
    Strategy,
    Supervision,
    Terminated,
    supervisor_spec,
)
from runtime import ActorCrashed, ActorRestarting, SupervisorParked
from tests.runtime.cast import (
    AT_ONCE,
    PATIENT,
    TEMPORARY,
    TRANSIENT,
    Boom,
    Does,
    Echo,
    Fault,
    Fragile,
    Recorder,
    child,
    names,
    settled,
    stage,
)


class Counter(Recorder):
    """Counts, and fails with whatever error it is sent."""

    def __init__(self, log, name=""):
        super().__init__(log, name)
        self.count = 0

    async def receive(self, message):
        if isinstance(message, Exception):
            raise message
        self.count += 1
        return self.count


def acting(**on_error):
    kinds = {"Boom": Boom, "Fault": Fault, "Exception": Exception}
    return Supervision(
        max_restarts=math.inf, backoff=AT_ONCE, on_error={kinds[name]: directive for name, directive in on_error.items()}
    )


async def test_PK_S01_a_failure_that_is_not_restarted_ends_the_actor_with_one_report(virtual_clock, log):
    crashes = []

    def instrument(event):
        if isinstance(event, ActorCrashed):
            crashes.append(repr(event.error))

    async with stage(instruments=[instrument]) as runtime:
        ref = await runtime.spawn(Counter, log, restart=TEMPORARY)
        with pytest.raises(ActorFailed):
            await ref.ask(Boom("once"))
        await settled()

    assert (names(log), crashes) == ("+ -", ["Boom('once')"])


async def test_PK_S02_stop_catches_errors_of_its_class_only(virtual_clock, log):
    async with stage(supervision=acting(Boom=Directive.STOP)) as runtime:
        ref = await runtime.spawn(Counter, log)

        ref.tell_nowait(Fault())
        await settled()
        assert ref.statistics().incarnation == 2

        ref.tell_nowait(Boom())
        await settled()
        with pytest.raises(ActorStopped):
            await ref.ask("anybody there?")


async def test_PK_S03_what_the_inner_supervisor_escalates_is_the_outers_to_decide(virtual_clock, log):
    inner = supervisor_spec("inner", [child("a", log)], acting(Boom=Directive.ESCALATE))
    async with stage() as runtime:
        await runtime.supervise([inner, child("b", log)], acting(), name="s")
        runtime.whereis("s/inner/a").tell_nowait(("raise", Fault()))
        await settled()
        assert names(log) == "a+ b+ a- a+"

        runtime.whereis("s/inner/a").tell_nowait(("raise", Boom()))
        await settled()

        assert names(log) == "a+ b+ a- a+ a- a+"
        inner_node = runtime.tree().children[0].children[0]
        assert (inner_node.address, inner_node.incarnation) == ("s/inner", 2)


async def test_an_error_that_escalates_to_the_top_comes_out_as_it_is(virtual_clock, log):
    with pytest.raises(Boom, match=r"too much"):  # noqa: PT012 - it comes out of the end of the block
        async with stage(supervision=acting(Boom=Directive.ESCALATE)) as runtime:
            ref = await runtime.spawn(Counter, log)
            ref.tell_nowait(Boom("too much"))
            await trio.sleep_forever()


async def test_PK_S04_a_restart_begins_with_new_state_and_keeps_the_mailbox(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Counter, log)
        assert [await ref.ask("one"), await ref.ask("two")] == [1, 2]
        ref.tell_nowait(Boom())

        assert await ref.ask("one again") == 1


async def test_PK_S05_resume_keeps_the_state_and_drops_the_message(virtual_clock, log):
    async with stage(supervision=acting(Boom=Directive.RESUME)) as runtime:
        ref = await runtime.spawn(Counter, log, name="a")
        await ref.ask("one")
        with pytest.raises(
            ActorFailed, match=r"^'a' failed while it handled a Boom message: Boom: dropped\n  at .*:\d+ in receive$"
        ):
            await ref.ask(Boom("dropped"))

        assert await ref.ask("two") == 2
        assert (ref.statistics().incarnation, ref.statistics().failed) == (1, 1)
        assert [letter.reason.value for letter in runtime.dead_letters] == ["failed"]
    assert names(log) == "+ -"


@pytest.mark.parametrize("limit", [0, 2])
async def test_PK_S07_S08_one_failure_more_than_the_limit_stops(limit, virtual_clock, log):
    supervision = Supervision(max_restarts=limit, within_s=60, backoff=AT_ONCE)
    async with stage() as runtime:
        await runtime.supervise([ChildSpec("a", Counter, (log,))], supervision, name="s", restart=TEMPORARY)
        for _ in range(limit):
            runtime.whereis("s/a").tell_nowait(Boom())
            await settled()
        assert runtime.whereis("s") is not None

        runtime.whereis("s/a").tell_nowait(Boom())
        await settled()
        assert runtime.whereis("s") is None


@pytest.mark.parametrize(("window_s", "pause_s"), [(2.0, 2.1), (0.5, 0.55)])
async def test_PK_S09_the_limit_forgets_after_its_window(window_s, pause_s, virtual_clock, log):
    supervision = Supervision(max_restarts=2, within_s=window_s, backoff=AT_ONCE)
    async with stage() as runtime:
        await runtime.supervise([ChildSpec("a", Counter, (log,))], supervision, name="s", restart=TEMPORARY)
        for _ in range(3):
            for _ in range(2):
                runtime.whereis("s/a").tell_nowait(Boom())
                await settled()
            await trio.sleep(pause_s)

        assert runtime.whereis("s/a").statistics().incarnation == 7


async def test_PK_S10_an_actor_is_set_up_when_it_is_spawned(virtual_clock, log):
    async with stage() as runtime:
        await runtime.spawn(Recorder, log)
        assert names(log) == "+"


async def test_PK_S15_S16_a_first_start_is_not_retried_and_a_restart_that_fails_is(virtual_clock, log):
    failures = [Boom("first")]
    slow = Supervision(max_restarts=10, within_s=100, backoff=Backoff(first_s=1, jitter=0))
    async with stage(supervision=slow) as runtime:
        with pytest.raises(Exception, match=r"did not start"):
            await runtime.spawn(Fragile, log, failures)
        ref = await runtime.spawn(Fragile, log, failures)
        failures += [Boom(), Boom()]
        ref.tell_nowait(("raise", Boom()))
        await trio.sleep(20)

    assert log == [(0, "!"), (0, "+"), (0, "-"), (1, "!"), (3, "!"), (7, "+"), (20, "-")]


async def test_PK_S17_messages_during_a_backoff_are_kept_up_to_the_capacity(virtual_clock, log):
    slow = Supervision(backoff=Backoff(first_s=1, jitter=0))
    async with stage(supervision=slow) as runtime:
        ref = await runtime.spawn(Recorder, log, mailbox=MailboxSpec(2, Overflow.DROP_NEWEST))
        ref.tell_nowait(("raise", Boom()))
        await settled()
        for number in range(4):
            ref.tell_nowait(number)
        await trio.sleep(2)

        dropped = [(letter.message, letter.reason.value) for letter in runtime.dead_letters][-2:]
    assert names(log) == "+ - + 0 1 -"
    assert dropped == [(2, "overflow"), (3, "overflow")]


async def test_PK_S19_a_setup_that_always_fails_ends_with_the_news_of_it(virtual_clock, log):
    failures: list[BaseException] = []
    heard = []
    supervision = Supervision(max_restarts=2, within_s=60, backoff=Backoff(first_s=0.2, jitter=0))

    async def listen(actor, message):
        if isinstance(message, Terminated):
            heard.append((message.reason.value, type(message.error).__name__))
        else:
            actor.context.watch(message)

    async with stage() as runtime:
        await runtime.supervise([ChildSpec("a", Fragile, (log, failures))], supervision, name="s", restart=TEMPORARY)
        watcher = await runtime.spawn(Does, listen)
        await watcher.ask(runtime.whereis("s/a"))
        failures += [Boom()] * 9
        runtime.whereis("s/a").tell_nowait(("raise", Boom()))
        await trio.sleep(10)

    assert heard == [("failed", "Boom")]
    assert log == [(0, "+"), (0, "-"), (0.2, "!"), (pytest.approx(0.6), "!")]


async def test_PK_S22_messages_are_kept_over_several_failures_and_failed_starts(virtual_clock, log):
    failures: list[BaseException] = []
    slow = Supervision(max_restarts=10, backoff=Backoff(first_s=1, factor=1, jitter=0))
    async with stage(supervision=slow) as runtime:
        ref = await runtime.spawn(Fragile, log, failures)
        for message in (("raise", Boom()), 1, ("raise", Boom()), 2):
            ref.tell_nowait(message)
        failures.append(Boom())
        await trio.sleep(10)

    assert names(log) == "+ - ! + 1 - + 2 -"


@pytest.mark.parametrize("restart", list(RestartType))
async def test_PK_S26_it_stops_cleanly_at_any_time(restart, virtual_clock, log):
    slow = Supervision(backoff=Backoff(first_s=1, jitter=0))
    for pause_s in (0, 0.5, 1, 1.5):
        async with stage(supervision=slow) as runtime:
            ref = await runtime.spawn(Recorder, log, restart=restart)
            ref.tell_nowait(("raise", Boom()))
            await trio.sleep(pause_s)
            await runtime.stop(ref)
            assert runtime.statistics().actors == {}
    assert names(log).count("+") == names(log).count("-")


async def test_PK_S30_an_administrative_restart_makes_an_older_restart_timer_harmless(virtual_clock, log):
    slow = Supervision(backoff=Backoff(first_s=10, jitter=0))
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log)], slow, name="s")
        runtime.whereis("s/a").tell_nowait(("raise", Boom()))
        await settled()
        await supervisor.terminate_child("a")
        await supervisor.restart_child("a")
        await trio.sleep(100)

        assert runtime.whereis("s/a").statistics().incarnation == 2


async def test_PK_B01_a_transient_actor_restarts_on_failure_only(virtual_clock, log):
    async with stage(supervision=PATIENT) as runtime:
        ref = await runtime.spawn(Recorder, log, restart=TRANSIENT)
        ref.tell_nowait(("raise", Boom()))
        ref.tell_nowait(("stop",))
        await settled()

    assert names(log) == "+ - + -"


async def test_PK_B04_count_and_delay_can_be_read(virtual_clock, log):
    slow = Supervision(backoff=Backoff(first_s=8, jitter=0))
    async with stage(supervision=slow) as runtime:
        ref = await runtime.spawn(Counter, log)
        assert (ref.statistics().restarts, ref.statistics().backoff_left_s) == (0, 0.0)
        ref.tell_nowait(Boom())
        await trio.sleep(3)

        found = ref.statistics()
        assert (found.state, found.restarts, found.backoff_left_s) == ("backing_off", 1, 5.0)


async def test_park_waits_the_longest_delay_and_tries_again_with_a_fresh_budget(virtual_clock, log):
    parked = []

    def instrument(event):
        if isinstance(event, SupervisorParked):
            parked.append((event.at_s, event.delay_s))

    backoff = Backoff(first_s=1, factor=1, cap_s=30, jitter=0)
    outage = Supervision(max_restarts=2, within_s=100, backoff=backoff, exhausted=Exhausted.PARK)
    failures: list[BaseException] = []
    async with stage(supervision=outage, instruments=[instrument]) as runtime:
        ref = await runtime.spawn(Fragile, log, failures)
        failures += [Boom()] * 4
        ref.tell_nowait(("raise", Boom()))
        await trio.sleep(100)
        assert await ref.ask("up again") == "up again"

    assert parked == [(2, 30)]
    assert [at for at, what in log if what == "!"] == [1, 2, 32, 33]


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_a_group_restart_whose_start_fails_takes_the_group_down_again(strategy, virtual_clock, log):
    failures: list[BaseException] = []
    children = [child("a", log), ChildSpec("b", Fragile, (log, failures, "b")), child("c", log)]
    slow = Supervision(strategy=strategy, max_restarts=5, backoff=Backoff(first_s=1, factor=2, jitter=0))
    async with stage() as runtime:
        await runtime.supervise(children, slow, name="s")
        failures.append(Boom())
        runtime.whereis("s/a").tell_nowait(("raise", Boom()))
        await trio.sleep(20)

        in_time = [(at, what) for at, what in log if at > 0]
        if strategy is Strategy.ONE_FOR_ALL:
            assert in_time == [(1, "a+"), (1, "b!"), (1, "a-"), (2, "a+"), (2, "b+"), (2, "c+")]
        else:
            assert in_time == [(1, "a+"), (1, "b!"), (2, "b+"), (2, "c+")]


async def test_PK_C05_a_group_waits_for_its_slowest_member_to_stop(virtual_clock, log):
    class Slow(Recorder):
        @contextlib.asynccontextmanager
        async def lifespan(self):
            async with super().lifespan():
                yield
            await trio.sleep(3)
            self.note("gone")

    children = [child("a", log), ChildSpec("b", Slow, (log, "b"))]
    async with stage() as runtime:
        await runtime.supervise(children, Supervision(strategy=Strategy.ONE_FOR_ALL, backoff=AT_ONCE), name="s")
        runtime.whereis("s/a").tell_nowait(("raise", Boom()))
        await trio.sleep(10)

        assert log[2:] == [(0, "a-"), (0, "b-"), (3, "bgone"), (3, "a+"), (3, "b+")]


async def test_PK_C04_an_immortal_child_survives_a_hundred_crashes(virtual_clock, log):
    async with stage(supervision=Supervision(max_restarts=math.inf, backoff=AT_ONCE)) as runtime:
        ref = await runtime.spawn(Counter, log)
        for _ in range(100):
            ref.tell_nowait(Boom()) if ref.statistics().mailbox.depth < 64 else await ref.tell(Boom())
            await settled()

        assert ref.statistics().incarnation == 101


@pytest.mark.parametrize("seed", range(5))
async def test_PK_C07_a_random_tree_under_random_failures_accounts_for_all_its_actors(seed, virtual_clock, log):
    rng = random.Random(seed)
    generous = Supervision(strategy=rng.choice(list(Strategy)), max_restarts=5, within_s=1, backoff=Backoff(0.1, cap_s=0.3))
    leaves = [supervisor_spec(f"s{n}", [child(f"a{m}", log) for m in range(3)], generous) for n in range(3)]
    async with stage(seed=seed, supervision=PATIENT) as runtime:
        await runtime.supervise(leaves, Supervision(max_restarts=20, within_s=1, backoff=AT_ONCE), name="top")
        for _ in range(200):
            target = runtime.whereis(f"top/s{rng.randrange(3)}/a{rng.randrange(3)}")
            if target is not None:
                with contextlib.suppress(Exception):
                    target.tell_nowait(("raise", Boom()))
            await trio.sleep(rng.choice([0, 0.01, 0.3]))
        await trio.sleep(100)

        found = runtime.statistics().actors
        assert sorted(found) == sorted(f"top/s{n}/a{m}" for n in range(3) for m in range(3))
        assert {statistics.state for statistics in found.values()} == {"running"}
    assert names(log).count("+") == names(log).count("-")


@pytest.mark.not_explored("twenty thousand messages")
async def test_PK_M04_a_mailbox_of_one_loses_no_wake_up(virtual_clock):
    async def count_down(actor, message):
        count, other = message
        if count:
            await other.tell((count - 1, actor.context.ref))
        else:
            done.set()

    done = trio.Event()
    async with stage() as runtime:
        ping, pong = [await runtime.spawn(Does, count_down, mailbox=MailboxSpec(capacity=1)) for _ in range(2)]
        await ping.tell((20_000, pong))
        await done.wait()

        assert ping.statistics().handled + pong.statistics().handled >= 20_000


async def test_PK_M10_messages_left_at_the_stop_are_dead_letters_with_their_recipient(virtual_clock):
    async def forward(actor, message):
        for number in range(3):
            await message.tell(number)

    async with stage() as runtime:
        target = await runtime.spawn(Recorder, [], name="target")
        target.tell_nowait(("sleep", 4))
        await trio.testing.wait_all_tasks_blocked()
        sender = await runtime.spawn(Does, forward, name="sender")
        await sender.ask(target)
        await runtime.stop(target)

        assert [(d.recipient, d.sender, d.message, d.age_s) for d in runtime.dead_letters] == [
            ("target", "sender", number, 4.0) for number in range(3)
        ]


async def test_PK_A06_an_ask_without_time_fails_at_once_and_sends_nothing(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Recorder, log)
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(0):
                await ref.ask("never sent")
        await settled()

    assert names(log) == "+ -"


async def test_restarts_are_announced_with_number_and_delay(virtual_clock, log):
    seen = []

    def instrument(event):
        if isinstance(event, ActorRestarting):
            seen.append((event.address, event.incarnation, event.restarts, event.delay_s))

    slow = Supervision(backoff=Backoff(first_s=1, jitter=0))
    async with stage(supervision=slow, instruments=[instrument]) as runtime:
        ref = await runtime.spawn(Counter, log, name="a", redelivery=Redelivery(2, AT_ONCE))
        ref.tell_nowait(Boom())
        await trio.sleep(10)

    assert seen == [("a", 1, 1, 1.0), ("a", 2, 2, 2.0)]


async def test_an_echo_is_unharmed_by_its_neighbours(virtual_clock):
    async with stage(supervision=PATIENT) as runtime:
        bad, good = await runtime.spawn(Echo), await runtime.spawn(Echo)
        bad.tell_nowait(Boom())
        await settled()

        assert (await good.ask("fine"), good.statistics().incarnation) == ("fine", 1)
