"""The language models of one runtime: what may be given, who opens it, who closes it."""

from typing import Any

import pytest
import trio

from actors import LM, ActorRef, Graph
from actors.errors import DeclarationError, UsageError
from runtime import open_runtime
from runtime.lm import Budget, LMClient, Retry
from runtime.lm.providers.translation import warm_up
from runtime.testing import Failure, ModelScript, ScriptedLM, open_loopback
from tests.runtime.graphs.stage import Ask, Done, graph_of

trio.run(warm_up)  # it takes a thread, for which virtual time does not wait

HELLO = [{"role": "user", "content": "Hello"}]


async def says(ask: Ask, lm: LM) -> Done:
    return Done((await lm.chat(HELLO)).text)


def asking(**options: Any) -> Graph:
    return graph_of(says, **options)


def client(server: Any, model: str = "m") -> LMClient:
    return LMClient(f"openai/{model}", api_key="key", api_base=server.api_base)


async def test_clients_share_one_transport_for_as_long_as_the_runtime_is_open(virtual_clock):
    async with open_loopback({"*": "Hi."}) as server:
        small, large = client(server, "s"), client(server, "l")
        async with open_runtime(lm=small, lms={"large": large}) as runtime:
            assert (await runtime.lm.chat(HELLO)).text == "Hi."
            assert (await runtime.lms["large"].chat(HELLO)).text == "Hi."
            assert [node.address for node in runtime.tree().children] == ["connections"]

        assert (small.is_open, large.is_open) == (False, False)


async def test_a_client_may_serve_one_runtime_after_another(virtual_clock):
    async with open_loopback({"*": "Hi."}) as server:
        lm = client(server)
        for _ in range(2):
            async with open_runtime(lm=lm) as runtime:
                assert await runtime.run(asking(), Ask()) == Done("Hi.")


async def test_a_client_that_only_a_node_brings_gets_its_transport_at_deployment(virtual_clock):
    async with open_loopback({"*": "Hi."}) as server:
        lm = client(server)
        async with open_runtime() as runtime:
            before = runtime.tree().children
            assert await runtime.run(asking(lm=lm), Ask()) == Done("Hi.")

            assert (before, [node.address for node in runtime.tree().children]) == ((), ["connections", "g"])
        assert not lm.is_open


async def test_a_client_that_a_node_brings_shares_the_transport_that_is_there(virtual_clock):
    async with open_loopback({"*": "Hi."}) as server:
        async with open_runtime(lm=client(server)) as runtime:
            assert await runtime.run(asking(lm=client(server, "own")), Ask()) == Done("Hi.")

            assert [node.address for node in runtime.tree().children] == ["connections", "g"]


@pytest.mark.parametrize("where", ["runtime", "node"])
async def test_a_client_that_its_owner_has_opened_is_used_as_it_is_and_left_open(where, virtual_clock):
    async with open_loopback({"*": "Hi."}) as server, client(server) as lm:
        async with open_runtime(lm=lm if where == "runtime" else None) as runtime:
            assert await runtime.run(asking(lm=lm if where == "node" else None), Ask()) == Done("Hi.")
            assert [node.address for node in runtime.tree().children] == ["g"]

        assert (await lm.chat(HELLO)).text == "Hi."


async def test_the_transport_is_replaced_when_its_owner_is_restarted(virtual_clock):
    async with open_loopback({"*": "Hi."}) as server:
        async with open_runtime(lm=client(server)) as runtime:
            owner = runtime.whereis("connections")
            assert isinstance(owner, ActorRef)
            await owner.tell("nonsense")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(UsageError, match="is not open"):
                await runtime.lm.chat(HELLO)
            await trio.sleep(1)

            assert (await runtime.lm.chat(HELLO)).text == "Hi."


async def test_a_name_stands_for_a_client_of_that_model(virtual_clock, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    async with open_runtime(lm="openai/gpt-4o-mini") as runtime:
        assert isinstance(runtime.lm, LMClient)
        assert (runtime.lm.model, runtime.lm.is_open) == ("openai/gpt-4o-mini", True)


@pytest.mark.parametrize("wrong", [5, ScriptedLM, object()])
async def test_something_that_is_no_model_is_refused(wrong, virtual_clock):
    with pytest.raises(DeclarationError) as caught:
        async with open_runtime(lms={"large": wrong}):
            pass

    assert str(caught.value) == (
        f"open_runtime(lms['large']={wrong!r}): expected a model's name, an LMClient, or an object with the methods of LM.\n"
        '  Fix: lm="openai/gpt-4o-mini", for example.'
    )


async def test_a_runtime_without_models_over_http_has_no_connections(virtual_clock):
    async with open_runtime(lm=ScriptedLM(["Hi."])) as runtime:
        assert await runtime.run(asking(), Ask()) == Done("Hi.")

        assert [node.address for node in runtime.tree().children] == ["g"]


async def test_a_client_in_a_runtime_may_have_as_many_requests_in_flight_as_it_says(virtual_clock):
    async with open_loopback({"*": "Hi."}, latency_s=1) as server:
        lm = LMClient("openai/m", api_key="key", api_base=server.api_base, max_connections=150)
        async with open_runtime(lm=lm), trio.open_nursery() as nursery:
            for _ in range(150):
                nursery.start_soon(lm.chat, HELLO)

        assert server.max_in_flight == 150


async def test_the_runtimes_budget_covers_the_clients_that_it_opens_and_their_fallbacks():
    whole, spent = Budget(), list[int]()
    down = ModelScript("never", failures=Failure.status(503))
    async with open_loopback({"down": down, "m": "hi"}) as server:
        first = LMClient("openai/down", api_key="k", api_base=server.api_base, fallbacks=[client(server)], retry=Retry(2))
        async with (
            client(server) as own,
            open_runtime(lm=first, lms={"own": own, "other": client(server)}, budget=whole) as runtime,
        ):
            for lm in (runtime.lm, runtime.lms["other"], runtime.lms["own"]):
                before = whole.tokens
                await lm.chat(HELLO)
                spent.append(whole.tokens - before)

    assert spent[0] == spent[1] > 0
    assert spent[2] == 0
