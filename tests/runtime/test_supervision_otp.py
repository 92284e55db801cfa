"""Erlang/OTP's and Elixir's expectations of a supervisor; each test bears the name of its case."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import weakref
from typing import Any

import pytest
import trio

from actors import (
    ActorFailed,
    ActorStartFailed,
    ActorStopped,
    AskCycle,
    AutoShutdown,
    Backoff,
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    DeclarationError,
    Directive,
    MailboxSpec,
    RestartsExhausted,
    RestartType,
    Strategy,
    Supervision,
    SupervisionError,
    supervisor_spec,
)
from runtime import ActorRestarting
from tests.runtime.cast import (
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


async def incarnations(runtime, *children):
    return [await runtime.whereis(f"s/{child_id}").ask(("incarnation",)) for child_id in children]


# --- 1 starting -------------------------------------------------------------------------------------------------------


async def test_OTP_001_sup_start_normal(virtual_clock):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], budget(2), name="s")

        assert await counts(supervisor) == [0, 0, 0, 0]

        await runtime.stop(supervisor)
        assert runtime.whereis("s") is None


async def test_OTP_009_sup_start_fail(virtual_clock, log):
    """A child that fails to start takes those before it down again, in reverse order, and the caller gets the error."""
    children = [child("a", log), child("b", log), ChildSpec("c", Fragile, (log, [Boom("no")], "c"))]

    async with stage() as runtime:
        with pytest.raises(ActorStartFailed) as caught:
            await runtime.supervise(children, name="s")

        assert names(log) == "a+ b+ c! b- a-"
        assert str(caught.value).startswith("'s' did not start: ActorStartFailed: 's/c' did not start: Boom: no\n")
        assert [runtime.whereis(name) for name in ("s", "s/a", "s/b", "s/c")] == [None] * 4


async def test_OTP_010_sup_start_child_returns_error(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], name="s")

        with pytest.raises(
            ActorStartFailed, match=r"^'s/a' did not start: Boom: no\n  at .* in lifespan\n  Fix: see the cause above"
        ) as caught:
            await supervisor.start_child(ChildSpec("a", Fragile, (log, [Boom("no")])))

        assert repr(caught.value.__cause__) == "Boom('no')"
        assert await supervisor.which_children() == []


async def test_OTP_011_sup_start_restart_child_returns_error(virtual_clock, log):
    failures: list[BaseException] = []
    async with stage() as runtime:
        supervisor = await runtime.supervise([ChildSpec("a", Fragile, (log, failures))], name="s")
        await supervisor.terminate_child("a")
        failures.append(Boom())

        with pytest.raises(ActorStartFailed):
            await supervisor.restart_child("a")

        assert await states(supervisor) == {"a": "stopped"}


async def test_OTP_013_sup_start_map(virtual_clock):
    spec = ChildSpec("a", Echo)

    assert (spec.restart, spec.shutdown_s, spec.significant, spec.args) == (PERMANENT, 5.0, False, ())
    assert supervisor_spec("s").shutdown_s == math.inf
    assert (Supervision().strategy, Supervision().max_restarts, Supervision().within_s) == (Strategy.ONE_FOR_ONE, 3, 5.0)


# --- 2 stopping -------------------------------------------------------------------------------------------------------


class Lingers(Recorder):
    """Takes its time to clean up."""

    def __init__(self, log, linger_s, name=""):
        super().__init__(log, name)
        self.linger_s = linger_s

    @contextlib.asynccontextmanager
    async def lifespan(self):
        try:
            yield
        finally:
            await trio.sleep(self.linger_s)
            self.note("-")


async def test_OTP_016_sup_stop_infinity(virtual_clock, log):
    async with stage() as runtime:
        spec = ChildSpec("a", Lingers, (log, 1000.0, "a"), shutdown_s=math.inf)
        await runtime.stop(await runtime.supervise([spec]))

    assert log == [(1000.0, "a-")]


async def test_OTP_017_sup_stop_timeout(virtual_clock, log):
    children = [
        ChildSpec("good", Lingers, (log, 0.5, "good"), shutdown_s=1),
        ChildSpec("slow", Lingers, (log, 200.0, "slow"), shutdown_s=1),
    ]
    async with stage() as runtime:
        await runtime.stop(await runtime.supervise(children))

        assert log == [(1.5, "good-")]
        assert trio.current_time() == 1.5


async def test_OTP_019_sup_stop_brutal_kill(virtual_clock, log):
    async with stage() as runtime:
        spec = ChildSpec("a", Lingers, (log, 0.5, "a"), shutdown_s=0)
        await runtime.stop(await runtime.supervise([spec]))

        assert log == []
        assert trio.current_time() == 0


# --- 3 administration -------------------------------------------------------------------------------------------------


async def test_OTP_023_extra_return(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log)], budget(2), name="s")
        unknown = (
            r"^supervisor 's' has no child 'x'\. It has: 'a'\.\n"
            r"  Fix: name one of these, or start_child\(…\) first; a temporary child is forgotten when it ends\.$"
        )
        for call in (supervisor.terminate_child, supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(ChildNotFound, match=unknown):
                await call("x")
        for call in (supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(ChildRunning, match=r"^'s/a' is running\.\n  Fix: terminate_child\('a'\) first\.$"):
                await call("a")

        await supervisor.terminate_child("a")
        await supervisor.terminate_child("a")
        assert await counts(supervisor) == [1, 0, 0, 1]
        ref = await supervisor.restart_child("a")
        assert ref is runtime.whereis("s/a")
        await crash(ref)
        assert await counts(supervisor) == [1, 1, 0, 1]
        await supervisor.terminate_child("a")
        await supervisor.delete_child("a")
        with pytest.raises(ChildNotFound, match=r"It has: none\.\n  Fix: start_child\(…\) first; a temporary child is forgotten"):
            await supervisor.restart_child("a")


async def test_OTP_024_child_adm(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log)], name="s")
        with pytest.raises(ChildAlreadyStarted, match=r"^supervisor 's' already has 'a', which is running"):
            await supervisor.start_child(child("a", log))
        await supervisor.terminate_child("a")
        with pytest.raises(ChildAlreadyPresent, match=r"^supervisor 's' already has 'a', which is stopped"):
            await supervisor.start_child(child("a", log))

        await runtime.stop(supervisor)
        with pytest.raises(SupervisionError, match=r"^supervisor 's' is not running, so it starts nothing"):
            await supervisor.start_child(child("b", log))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"id": 3}, "ChildSpec(id=3): expected a str."),
        ({"id": "a/b"}, "'a/b' cannot name an actor"),
        ({"id": ""}, "'' cannot name an actor"),
        ({"factory": 3}, "ChildSpec(factory=3): expected an Actor class or a function that returns a new Actor."),
        ({"factory": Echo()}, "ChildSpec(factory=<Echo instance>): an instance would be shared by all incarnations."),
        ({"restart": "permanent"}, "ChildSpec(restart='permanent'): expected a RestartType."),
        ({"shutdown_s": -10}, "ChildSpec(shutdown_s=-10): expected a number >= 0."),
        ({"significant": True}, "ChildSpec('a'): significant=True with restart=PERMANENT can never take effect"),
        ({"mailbox": 64}, "ChildSpec(mailbox=64): expected a MailboxSpec."),
    ],
)
def test_OTP_026_child_specs(options, words):
    with pytest.raises(DeclarationError) as caught:
        ChildSpec(**({"id": "a", "factory": Echo} | options))

    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(("restart", "shutdown_s"), list(itertools.product(RestartType, [0, 1000, math.inf])))
def test_OTP_026_child_specs_that_are_fine(restart, shutdown_s):
    spec = ChildSpec("a", Echo, restart=restart, shutdown_s=shutdown_s)

    assert (spec.restart, spec.shutdown_s) == (restart, shutdown_s)


def test_OTP_026_duplicate_ids():
    with pytest.raises(DeclarationError, match=r"^children: the id 'a' is given twice\.\n  Fix: give each child its own id\.$"):
        supervisor_spec("s", [ChildSpec("a", Echo), ChildSpec("a", Echo)])


def test_OTP_027_significant_without_automatic_shutdown():
    with pytest.raises(DeclarationError, match=r"^children: 'a' is significant but the supervisor's auto_shutdown is NEVER"):
        supervisor_spec("s", [ChildSpec("a", Echo, restart=TRANSIENT, significant=True)])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("strategy", "one_for_one"),
        ("max_restarts", -1),
        ("max_restarts", 1.5),
        ("within_s", 0),
        ("within_s", math.inf),
        ("backoff", 1.0),
        ("auto_shutdown", True),
        ("on_error", {"Boom": Directive.STOP}),
        ("on_error", {Boom: "stop"}),
        ("exhausted", None),
    ],
)
def test_OTP_028_sup_flags(option, value):
    with pytest.raises(DeclarationError, match=rf"^Supervision\({option}="):
        Supervision(**{option: value})


async def test_OTP_029_count_children(virtual_clock):
    async with stage() as runtime:
        supervisor = await runtime.supervise([])
        for number in range(1000):
            await supervisor.start_child(ChildSpec(str(number), Echo, restart=TEMPORARY))
        assert await counts(supervisor) == [1000, 1000, 0, 1000]

        for info in await supervisor.which_children():
            info.ref.tell_nowait(Boom())
        await settled()

        assert await counts(supervisor) == [0, 0, 0, 0]


async def test_OTP_030_count_children_supervisor(virtual_clock):
    async with stage() as runtime:
        supervisor = await runtime.supervise([supervisor_spec(str(number)) for number in range(100)])

        assert await counts(supervisor) == [100, 100, 100, 0]


async def test_OTP_031_count_restarting_children(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise(
            [child(name, log) for name in "abc"], budget(20, 10, backoff=Backoff(first_s=30, jitter=0)), name="s"
        )
        await crash(runtime.whereis("s/a"))
        await crash(runtime.whereis("s/b"))

        assert await counts(supervisor) == [3, 1, 0, 3]
        assert await states(supervisor) == {"a": "restarting", "b": "restarting", "c": "running"}


async def test_OTP_032_which_children(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log), child("b", log)])
        await supervisor.terminate_child("b")

        newest, oldest = await supervisor.which_children()

        assert (newest.id, newest.state, oldest.id, oldest.state) == ("b", "stopped", "a", "running")
        assert (oldest.ref, oldest.restart, oldest.significant) == (runtime.whereis(oldest.ref.address), PERMANENT, False)


async def test_OTP_035_order_of_children(virtual_clock, log):
    supervision = budget(1, strategy=Strategy.REST_FOR_ONE)
    async with stage() as runtime:
        supervisor = await runtime.supervise([child(str(n), log) for n in (7, 3, 10, 2, 5)], supervision, name="s")
        assert names(log) == "7+ 3+ 10+ 2+ 5+"
        log.clear()

        await crash(runtime.whereis("s/10"))
        assert names(log) == "10- 5- 2- 10+ 2+ 5+"
        log.clear()

        await runtime.stop(supervisor)
        assert names(log) == "5- 2- 10- 3- 7-"


async def test_OTP_036_a_name_that_is_taken(virtual_clock):
    async with stage() as runtime:
        ref = await runtime.spawn(Echo, name="a")

        with pytest.raises(ChildAlreadyStarted) as caught:
            await runtime.spawn(Echo, name="a")

        assert str(caught.value) == (
            "supervisor '(root)' already has 'a', which is running.\n"
            "  Fix: use its ref (whereis), or give the new child another name."
        )
        assert runtime.whereis("a") is ref


# --- 4 ends and restart types -----------------------------------------------------------------------------------------

NORMAL, ABNORMAL = ("stop",), ("raise", Boom())


@pytest.mark.parametrize(
    ("restart", "end", "expected"),
    [
        pytest.param(PERMANENT, NORMAL, [1, 1, 0, 1], id="OTP_038_permanent_normal"),
        pytest.param(PERMANENT, ABNORMAL, [1, 1, 0, 1], id="OTP_040_permanent_abnormal"),
        pytest.param(TRANSIENT, NORMAL, [1, 0, 0, 1], id="OTP_041_transient_normal"),
        pytest.param(TRANSIENT, ABNORMAL, [1, 1, 0, 1], id="OTP_043_transient_abnormal"),
        pytest.param(TEMPORARY, NORMAL, [0, 0, 0, 0], id="OTP_044_temporary_normal"),
        pytest.param(TEMPORARY, ABNORMAL, [0, 0, 0, 0], id="OTP_044_temporary_abnormal"),
    ],
)
async def test_OTP_038_to_044_ends_and_restart_types(restart, end, expected, virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log, restart=restart)], budget(2), name="s")
        runtime.whereis("s/a").tell_nowait(end)
        await settled()

        assert await counts(supervisor) == expected
        if expected == [1, 1, 0, 1]:
            assert await incarnations(runtime, "a") == [2]
        elif expected == [1, 0, 0, 1]:
            await supervisor.restart_child("a")
        else:
            await supervisor.start_child(child("a", log, restart=restart))


@pytest.mark.parametrize(("restart", "expected"), [(PERMANENT, 2), (TRANSIENT, None)])
async def test_OTP_039_042_shutdown(restart, expected, virtual_clock, log):
    """A supervisor that gave up ends as if it had been shut down: only a permanent one is started again."""
    inner = supervisor_spec("inner", [child("a", log)], budget(0), restart=restart)
    async with stage() as runtime:
        supervisor = await runtime.supervise([inner], budget(5), name="s")

        await crash(runtime.whereis("s/inner/a"))

        assert await counts(supervisor) == [1, int(expected is not None), 1, 0]
        found = runtime.whereis("s/inner/a")
        assert (found is not None) == (expected is not None)


async def test_OTP_045_the_reason_of_a_nested_start_is_kept_through_the_levels(virtual_clock, log):
    inner = supervisor_spec("inner", [ChildSpec("a", Fragile, (log, [Boom("root cause")]))])
    async with stage() as runtime:
        with pytest.raises(ActorStartFailed) as caught:
            await runtime.supervise([inner], name="s")

    inner_error = cause_of(caught)
    chain = [caught.value.address, inner_error.address, cause_of(inner_error).address]
    assert chain == ["s", "s/inner", "s/inner/a"]
    assert repr(cause_of(cause_of(inner_error))) == "Boom('root cause')"


# --- 5 strategies and intensity ---------------------------------------------------------------------------------------


async def test_OTP_046_multiple_restarts(virtual_clock, log):
    async with stage() as runtime:
        await runtime.supervise([child("a", log)], budget(1, 1.0), name="s")
        for _ in range(4):
            await crash(runtime.whereis("s/a"))
            await trio.sleep(2.1)

        assert await incarnations(runtime, "a") == [5]


@pytest.mark.parametrize(("pause_s", "survives"), [(1.0, False), (1.01, True)])
async def test_OTP_046_the_window_includes_both_its_ends(pause_s, survives, virtual_clock, log):
    async with stage() as runtime:
        await runtime.supervise([child("a", log)], budget(1, 1.0), name="s", restart=TEMPORARY)
        runtime.whereis("s/a").tell_nowait(("raise", Boom()))
        await trio.sleep(pause_s)
        runtime.whereis("s/a").tell_nowait(("raise", Boom()))
        await trio.sleep(0.5)

        assert (runtime.whereis("s") is not None) == survives


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        pytest.param(Strategy.ONE_FOR_ONE, [1, 2, 1], id="OTP_047_one_for_one"),
        pytest.param(Strategy.ONE_FOR_ALL, [2, 2, 2], id="OTP_049_one_for_all"),
        pytest.param(Strategy.REST_FOR_ONE, [1, 2, 2], id="OTP_052_rest_for_one"),
    ],
)
async def test_OTP_047_049_052_strategies(strategy, expected, virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise(
            [child(name, log) for name in "abc"], budget(2, strategy=strategy), name="s", restart=TEMPORARY
        )
        await crash(runtime.whereis("s/b"))
        assert await incarnations(runtime, "a", "b", "c") == expected
        assert await counts(supervisor) == [3, 3, 0, 3]

        await crash(runtime.whereis("s/a"))
        await crash(runtime.whereis("s/c"))

        assert [runtime.whereis(name) for name in ("s", "s/a", "s/b", "s/c")] == [None] * 4
        assert names(log).endswith("c- b- a-")


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_OTP_048_050_053_failing_restarts_exhaust_the_budget(strategy, virtual_clock, log):
    failures: list[BaseException] = []
    children = [child("a", log), ChildSpec("b", Fragile, (log, failures, "b"))]
    async with stage() as runtime:
        await runtime.supervise(children, budget(4, strategy=strategy), name="s", restart=TEMPORARY)
        failures += [Boom()] * 10

        await crash(runtime.whereis("s/b"))

        assert names(log).count("b!") == 4
        assert runtime.whereis("s") is None
        assert runtime.whereis("s/a") is None


async def test_OTP_057_dynamic_children_stop_in_reverse_order_like_any_other(virtual_clock, log):
    """OTP stops those of a simple_one_for_one supervisor together; here one order holds for all children."""
    async with stage() as runtime:
        supervisor = await runtime.supervise([])
        for number, seconds in enumerate((1.0, 1.0, 5.0)):
            await supervisor.start_child(ChildSpec(str(number), Lingers, (log, seconds, str(number)), shutdown_s=2))

        await runtime.stop(supervisor)

    assert log == [(3.0, "1-"), (4.0, "0-")]


@pytest.mark.parametrize("restart", list(RestartType))
async def test_OTP_060_067_arguments_of_a_temporary_child_are_not_retained(restart, virtual_clock):
    class Big(list[Any]):
        pass

    big = Big()
    gone = weakref.ref(big)
    async with stage() as runtime:
        supervisor = await runtime.supervise([], budget(math.inf))
        ref = await supervisor.start_child(ChildSpec("a", Recorder, (big,), restart=restart))
        del big
        ref.tell_nowait(("stop",))
        del ref
        await settled()
        gc.collect()

        assert (gone() is None) == (restart is TEMPORARY)


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_OTP_062_temporary_bystander(strategy, virtual_clock, log):
    children = [child("a", log), child("b", log, restart=TEMPORARY)]
    async with stage() as runtime:
        supervisor = await runtime.supervise(children, budget(2, 300, strategy=strategy), name="s")

        await crash(runtime.whereis("s/a"))

        assert names(log) == "a+ b+ a- b- a+"
        assert await states(supervisor) == {"a": "running"}


async def test_OTP_063_names_resolve_over_restarts(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log)], budget(3, 60, strategy=Strategy.ONE_FOR_ALL), name="s")
        ref = runtime.whereis("s/a")

        await crash(ref)
        assert runtime.whereis("s/a") is ref
        await supervisor.terminate_child("a")
        assert runtime.whereis("s/a") is None
        assert await supervisor.restart_child("a") is ref
        assert runtime.whereis("s/a") is ref


# --- 6 the retry loop -------------------------------------------------------------------------------------------------


async def test_OTP_066_administration_is_answered_during_a_backoff(virtual_clock, log):
    slow = budget(8, 10, backoff=Backoff(first_s=30, jitter=0))
    async with stage() as runtime:
        supervisor = await runtime.supervise([child("a", log), child("b", log), child("c", log)], slow, name="s")
        for name in "abc":
            await crash(runtime.whereis(f"s/{name}"))

        for call in (supervisor.restart_child, supervisor.delete_child):
            with pytest.raises(ChildRestarting, match=r"^'s/a' waits for its restart\.\n  Fix: terminate_child\('a'\) first\.$"):
                await call("a")
        with pytest.raises(ChildAlreadyPresent, match=r"^supervisor 's' already has 'a', which is being restarted\."):
            await supervisor.start_child(child("a", log))
        await supervisor.terminate_child("a")
        await supervisor.delete_child("a")
        await supervisor.terminate_child("b")
        await supervisor.restart_child("b")
        await supervisor.start_child(child("d", log))
        assert await states(supervisor) == {"b": "running", "c": "restarting", "d": "running"}
        await runtime.stop(supervisor)

        assert trio.current_time() < 0.1


# --- 7 specs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize(("restart", "refusal"), [(PERMANENT, ChildAlreadyPresent), (TEMPORARY, None)])
async def test_OTP_068_specs_of_temporary_children_are_forgotten(restart, refusal, strategy, virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], budget(3, strategy=strategy))
        await supervisor.start_child(child("a", log, restart=restart))
        await supervisor.terminate_child("a")

        with pytest.raises(refusal) if refusal else contextlib.nullcontext():
            await supervisor.start_child(child("a", log, restart=restart))


# --- 8 significant children -------------------------------------------------------------------------------------------

ANY, ALL = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT


@pytest.mark.parametrize("automatic", list(AutoShutdown))
@pytest.mark.parametrize("restart", [TEMPORARY, TRANSIENT])
@pytest.mark.parametrize("end", [NORMAL, ABNORMAL])
async def test_OTP_072_073_nonsignificant_children_end_without_consequence(end, restart, automatic, virtual_clock, log):
    children = [child("a", log, restart=restart), child("b", log)]
    async with stage() as runtime:
        supervisor = await runtime.supervise(children, budget(5, auto_shutdown=automatic), name="s")

        runtime.whereis("s/a").tell_nowait(end)
        await settled()

        assert runtime.whereis("s") is supervisor


@pytest.mark.parametrize(
    ("automatic", "ends", "alive"),
    [
        (ANY, [("a", ABNORMAL)], True),
        (ANY, [("a", NORMAL)], False),
        (ALL, [("a", NORMAL)], True),
        (ALL, [("a", NORMAL), ("b", ABNORMAL)], True),
        (ALL, [("a", NORMAL), ("b", NORMAL)], False),
    ],
)
async def test_OTP_075_significant_transient(automatic, ends, alive, virtual_clock, log):
    children = [child(name, log, restart=TRANSIENT, significant=True) for name in "ab"] + [child("c", log)]
    async with stage() as runtime:
        await runtime.supervise(children, budget(5, auto_shutdown=automatic), name="s", restart=TRANSIENT)

        for name, end in ends:
            runtime.whereis(f"s/{name}").tell_nowait(end)
            await settled()

        assert (runtime.whereis("s") is not None) == alive
        assert (runtime.whereis("s/c") is not None) == alive


async def test_OTP_076_significant_dynamic_children_are_allowed(virtual_clock, log):
    """OTP refuses them; "stop the pool when its last worker is done" is worth having."""
    async with stage() as runtime:
        supervisor = await runtime.supervise([], budget(5, auto_shutdown=ALL), name="s", restart=TRANSIENT)
        for name in "ab":
            await supervisor.start_child(child(name, log, restart=TEMPORARY, significant=True))
        for name in "ab":
            runtime.whereis(f"s/{name}").tell_nowait(("stop",))
            await settled()

        assert runtime.whereis("s") is None


async def test_OTP_076_significance_without_automatic_shutdown_is_refused(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise([], name="s")

        with pytest.raises(SupervisionError, match=r"^'a' is significant but the auto_shutdown of 's' is NEVER"):
            await supervisor.start_child(child("a", log, restart=TEMPORARY, significant=True))


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_OTP_077_significant_bystander(strategy, virtual_clock, log):
    children = [child("a", log), child("b", log, restart=TRANSIENT, significant=True)]
    async with stage() as runtime:
        supervisor = await runtime.supervise(children, budget(5, strategy=strategy, auto_shutdown=ANY), name="s")

        await crash(runtime.whereis("s/a"))

        assert await states(supervisor) == {"a": "running", "b": "running"}


# --- 10 servers -------------------------------------------------------------------------------------------------------


async def test_OTP_083_a_failed_start_leaves_no_name_behind(virtual_clock, log):
    async with stage() as runtime:
        with pytest.raises(ActorStartFailed):
            await runtime.spawn(Fragile, log, [Boom()], name="a")

        assert runtime.whereis("a") is None
        await runtime.spawn(Fragile, log, [], name="a")


async def test_OTP_084_stop_is_synchronous_and_a_second_one_has_no_effect(virtual_clock, log):
    async with stage() as runtime:
        ref = await runtime.spawn(Lingers, log, 2.0, name="a")

        await runtime.stop(ref)
        await runtime.stop(ref)

        assert trio.current_time() == 2
        with pytest.raises(ActorStopped):
            await ref.ask("anybody there?")


async def test_OTP_088_call_to_self(virtual_clock):
    async def ask_oneself(actor, message):
        await actor.context.ref.ask("?")

    async with stage() as runtime:
        ref = await runtime.spawn(Does, ask_oneself, name="a")

        with pytest.raises(ActorFailed) as caught:
            await ref.ask("go")

        assert isinstance(caught.value.__cause__, AskCycle)


async def test_OTP_095_a_reply_does_not_wait_behind_the_askers_own_mailbox(virtual_clock):
    async with stage() as runtime:

        async def answer(actor, message):
            await trio.sleep(1)
            return message

        echo = await runtime.spawn(Does, answer)

        async def relay(actor, message):
            if message == "first":
                return await echo.ask(message), actor.context.ref.statistics().mailbox.depth
            return None

        asker = await runtime.spawn(Does, relay, mailbox=MailboxSpec(capacity=math.inf))
        replies = []

        async def ask_first():
            replies.append(await asker.ask("first"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_first)
            await settled()
            for number in range(1000):
                asker.tell_nowait(number)

        assert replies == [("first", 1000)]


async def test_OTP_097_several_asks_at_once_and_the_rest_abandoned(virtual_clock):
    async def sleep(actor, seconds):
        await trio.sleep(seconds)
        return seconds

    async with stage() as runtime:
        refs = [await runtime.spawn(Does, sleep) for _ in range(3)]
        answers = []

        async def ask(ref, seconds):
            answers.append(await ref.ask(seconds))
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for ref, seconds in zip(refs, (3, 1, 2), strict=True):
                nursery.start_soon(ask, ref, seconds)

        assert (answers, trio.current_time()) == ([1], 1.0)


# --- 11 Elixir --------------------------------------------------------------------------------------------------------


async def test_EX_05_a_restart_that_fails_is_tried_again_until_the_budget_is_spent(virtual_clock, log):
    failures: list[BaseException] = []
    async with stage() as runtime:
        await runtime.supervise([ChildSpec("a", Fragile, (log, failures))], budget(3), name="s")
        failures += [Boom(), Boom()]

        await crash(runtime.whereis("s/a"))

        assert names(log) == "+ - ! ! +"


async def test_EX_07_max_restarts_1(virtual_clock, log):
    async with stage() as runtime:
        await runtime.supervise([child("a", log)], budget(1), name="s", restart=TRANSIENT)
        await crash(runtime.whereis("s/a"))
        assert runtime.whereis("s") is not None
        await crash(runtime.whereis("s/a"))
        assert runtime.whereis("s") is None


async def test_EX_08_terminate_paths(virtual_clock, log):
    async with stage() as runtime:
        supervisor = await runtime.supervise(
            [ChildSpec(str(limit), Lingers, (log, 1.0, str(limit)), shutdown_s=limit) for limit in (0, 0.5, 2, math.inf)]
        )
        for limit in (0, 0.5, 2, math.inf):
            await supervisor.terminate_child(str(limit))

    assert log == [(1.5, "2-"), (2.5, "inf-")]


async def test_the_root_supervisor_that_gives_up_ends_the_runtime_with_its_reason(virtual_clock, log):
    with pytest.raises(RestartsExhausted) as caught:  # noqa: PT012 - it comes out of the end of the block
        async with stage(supervision=budget(1, 5.0)) as runtime:
            ref = await runtime.spawn(Recorder, log, name="a")
            ref.tell_nowait(("raise", Boom("first")))
            ref.tell_nowait(("raise", Boom("second")))
            await trio.sleep(100)

    assert str(caught.value) == (
        "supervisor '(root)' gave up: 'a' needed restart number 2 within 5 s, and max_restarts is 1.\n"
        "  Fix: see the cause above; or Supervision(max_restarts=…, within_s=…), or exhausted=Exhausted.PARK for outages."
    )
    assert repr(caught.value.__cause__) == "Boom('second')"
    assert trio.current_time() == 0


async def test_the_sequence_of_delays_is_exact_and_begins_anew_after_a_quiet_time(virtual_clock, log):
    delays = []
    backoff = Backoff(first_s=1, factor=2, cap_s=5, jitter=0, reset_after_s=60)

    def instrument(event):
        if isinstance(event, ActorRestarting):
            delays.append((trio.current_time(), event.delay_s, event.restarts))

    async with stage(supervision=budget(100, backoff=backoff), instruments=[instrument]) as runtime:
        ref = await runtime.spawn(Recorder, log)
        for _ in range(4):
            ref.tell_nowait(("raise", Boom()))
        await trio.sleep(1 + 2 + 4 + 5 + 60)
        ref.tell_nowait(("raise", Boom()))
        await trio.sleep(10)

    assert delays == [(0, 1, 1), (1, 2, 2), (3, 4, 3), (7, 5, 4), (72, 1, 5)]
