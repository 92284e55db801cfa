"""Language models stay with the runtime: what placed nodes and actors ask them goes over the link, and is booked as at home."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing

from actors import LM, Actor, ActorFailed, Completion, Graph, LMUnavailable, RunFailed, Usage, UsageError
from runtime import LMCalled, LMDelta, open_runtime
from runtime.placement import Here
from runtime.testing import ScriptedLM
from runtime.testing.loopback_hosts import LoopbackHosts
from tests.runtime.graphs.stage import Ask, Done, graph_of, leaves


def without_times(event: Any) -> Any:
    return attrs.evolve(event, **{name: 0.0 for name in ("at_s", "duration_s") if hasattr(event, name)})


async def chats(ask: Ask, lm: LM) -> Done:
    whole = await lm.chat([{"role": "user", "content": "one"}], temperature=0.5)
    async with lm.stream([{"role": "user", "content": "two"}]) as stream:
        pieces = [getattr(delta, "text", "") async for delta in stream]
    return Done((lm.model, whole.text, "".join(pieces), stream.completion.text, whole.usage.total_tokens))


async def test_a_placed_node_asks_the_model_of_its_runtime_as_at_home(autojump_clock):
    seen: list[Any] = []
    for place in (Here(), LoopbackHosts()):
        lm = ScriptedLM(["first", "and the second"], latency_s=1.0, usage=Usage(3, 4), interval_s=0.5)
        calls: list[Any] = []
        async with open_runtime(lm=lm, places={"cpu": place}) as runtime:
            runtime._services.events.add_sink(calls.append, (LMCalled, LMDelta))
            handle = await runtime.start(graph_of(chats, place="cpu"), Ask())
            done = await handle.result()
            spend = handle.spend if hasattr(handle, "spend") else None
        assert [call.options for call in lm.calls] == [{"temperature": 0.5}, {}]
        seen.append((done, spend, [(type(each).__name__, getattr(each, "operation", "")) for each in calls]))
    assert seen[0][0] == Done(("scripted", "first", "and the second", "and the second", 7))
    assert seen[1] == seen[0]


async def test_what_the_model_raises_is_raised_on_the_host_and_comes_back_as_it_was(autojump_clock):
    error = LMUnavailable("it is down", model="m")
    caught: list[Any] = []

    async def asks(ask: Ask, lm: LM) -> Done:
        try:
            await lm.chat([{"role": "user", "content": "x"}])
        except LMUnavailable as failure:
            caught.append(str(failure))
        async with lm.stream([{"role": "user", "content": "x"}]):
            pass
        return Done()

    async with open_runtime(lm=ScriptedLM([error, error]), places={"cpu": LoopbackHosts()}) as runtime:
        with pytest.raises(RunFailed) as failure:
            await runtime.run(graph_of(asks, place="cpu"), Ask())
    assert caught == ["it is down"]
    assert leaves(failure.value)[0].__cause__ is error


async def test_a_placed_node_predicts_with_dspy_over_the_link(autojump_clock):
    async def answers(ask: Ask, lm: LM) -> Done:
        return Done((await lm.predict("question -> answer", question="why?")).answer)

    lm = ScriptedLM([{"answer": "because"}])
    async with open_runtime(lm=lm, places={"cpu": LoopbackHosts()}) as runtime:
        assert await runtime.run(graph_of(answers, place="cpu"), Ask()) == Done("because")
    assert "why?" in lm.calls[0].text


class Talker(Actor[str]):
    async def receive(self, message):
        runtime = self.context.runtime
        if message == "which":
            return [runtime.lm.model, sorted(runtime.lms)]
        if message == "missing":
            return runtime.lms["nobody"]
        if message == "beside":
            self.context.nursery.start_soon(self.ask_beside)
            return None
        completion = await runtime.lms["large"].chat([{"role": "user", "content": message}])
        return completion.text

    async def ask_beside(self):
        answer = await self.context.runtime.lm.chat([{"role": "user", "content": "beside"}])
        await self.context.ref.tell(answer.text)


async def test_a_placed_actor_asks_the_models_of_its_runtime_and_its_cancelled_call_ends_there(autojump_clock):
    default = ScriptedLM(["small"], model="small")
    large = ScriptedLM({"slow": "late", "": ["big", "bigger"]}, model="big", latency_s={"slow": 100.0, "": 1.0}, unused="ok")
    async with open_runtime(lm=default, lms={"large": large}, places={"cpu": LoopbackHosts()}) as runtime:
        ref = await runtime.spawn(Talker, name="t", place="cpu")
        assert await ref.ask("which") == ["small", ["large"]]
        assert await ref.ask("hello") == "big"
        with trio.move_on_after(3):
            await ref.ask("slow")
        await trio.testing.wait_all_tasks_blocked()  # the asker waits no more, and the host hears of it
        assert (large.in_flight, large.calls[-1].cancelled, large.calls[-1].ended_s) == (0, True, 4.0)
        await ref.ask("beside")
        await trio.sleep(5)
        assert large.calls[-1].text == "small"
        with pytest.raises(ActorFailed, match="nobody"):
            await ref.ask("missing")


async def test_without_a_default_model_a_placed_actor_is_told_so(autojump_clock):
    async with open_runtime(places={"cpu": LoopbackHosts()}) as runtime:
        ref = await runtime.spawn(Talker, name="t", place="cpu")
        with pytest.raises(ActorFailed) as failure:
            await ref.ask("which")
    assert isinstance(failure.value.__cause__, UsageError)


async def test_a_host_that_is_lost_ends_the_call_of_the_model(autojump_clock):
    async def chat(ask: Ask, lm: LM) -> Done:
        return Done((await lm.chat([{"role": "user", "content": "x"}])).text)

    place, lm = LoopbackHosts(), ScriptedLM([Completion("never", "m")], latency_s=100.0, unused="ok")
    graph: Graph[Any, Any] = graph_of(chat, place="cpu")
    async with open_runtime(lm=lm, places={"cpu": place}) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(kill_in, place, 5)
        with pytest.raises(RunFailed):
            await runtime.run(graph, Ask())
        assert (lm.in_flight, lm.calls[0].cancelled, lm.calls[0].ended_s) == (0, True, 5.0)


async def kill_in(place: LoopbackHosts, seconds: float) -> None:
    await trio.sleep(seconds)
    place.kill("host-1")
