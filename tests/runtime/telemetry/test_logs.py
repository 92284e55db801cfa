"""Events as records of logging: the right logger and level, fields, and nothing that users have written."""

from __future__ import annotations

import logging

import attrs
import pytest
import trio

from actors import Actor, Backoff, ChildSpec, Graph, Redelivery, RunFailed
from runtime import open_runtime
from runtime.telemetry import LogEvents


@attrs.frozen
class Ask:
    text: str


@attrs.frozen
class Done:
    text: str


class Fragile(Actor):
    async def receive(self, message: object) -> None:
        raise ValueError("canary in an error")


async def test_a_crash_and_its_restart_are_warnings_with_fields(caplog, autojump_clock):
    caplog.set_level(logging.DEBUG, "understudy")

    async with open_runtime(instruments=[LogEvents(error_text=False)]) as runtime:
        ref = await runtime.spawn(Fragile, name="fragile")
        await ref.tell("canary")
        await trio.sleep(5)

    records = {getattr(record, "understudy_event", ""): record for record in caplog.records}
    crashed, again = records["ActorCrashed"], records["ActorRestarting"]
    assert (crashed.name, crashed.levelno) == ("understudy.supervision", logging.WARNING)
    assert (vars(crashed)["understudy_address"], vars(crashed)["understudy_error"]) == ("fragile", "ValueError")
    assert vars(again)["understudy_restarts"] == 1
    assert records["MessageDeadLettered"].levelno == logging.WARNING
    assert "canary" not in " ".join(record.getMessage() for record in caplog.records if record.name.startswith("understudy."))


async def test_the_end_of_a_run_is_on_info_and_a_failure_on_error(caplog, autojump_clock):
    caplog.set_level(logging.DEBUG, "understudy")
    graph = Graph("g", input=Ask, output=Done)

    @graph.node(redelivery=Redelivery(max_attempts=2, backoff=Backoff(first_s=1, jitter=0)))
    async def work(ask: Ask) -> Done:
        if ask.text == "bad":
            raise OSError("the disk")
        return Done(ask.text)

    async with open_runtime(instruments=[LogEvents()]) as runtime:
        await runtime.run(graph, Ask("good"))
        with pytest.raises(RunFailed):
            await runtime.run(graph, Ask("bad"))

    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "understudy.runs"]
    assert [level for level, _ in told] == ["DEBUG", "INFO", "DEBUG", "WARNING", "ERROR", "ERROR"]
    assert told[1] == ("INFO", "run g-1 succeeded")
    assert "OSError: the disk" in told[3][1]
    assert "(attempt 2)" in told[4][1]


async def test_every_class_that_it_names_has_its_words(autojump_clock):
    log = LogEvents()

    assert ChildSpec is not None
    assert len(set(log.kinds)) == len(log.kinds) > 15
