"""Adoption over any graphs: of an unchanged one it is a replay, and in another nothing that was paid for goes without a word."""

from __future__ import annotations

import json
import random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from actors.errors import DeclarationError
from actors.graphs.graph import Graph
from actors.store_errors import RunChanged
from runtime.graphs.adopting import Adoption, Terrain, effective, restored, step_of
from runtime.graphs.records.digests import Digests
from runtime.graphs.records.journaling import note_parts
from runtime.graphs.records.resuming import TOLD, replay
from runtime.graphs.reducer.branches import Delivery
from runtime.graphs.reducer.state import RunState
from runtime.journal.records import Record, RecordKind, digest_of
from tests.runtime.graphs.driving import call
from tests.runtime.graphs.reducer.test_short_way import random_ways, remembered
from tests.runtime.graphs.reducer.test_state import M0, random_graphs, random_pipelines

graphs = st.one_of(random_ways(), random_graphs(), random_pipelines())
NOW_S = 0.0


def terrain_of(graph: Graph) -> Terrain:
    try:
        return Terrain.of(graph)
    except DeclarationError:
        assume(False)
        raise


def journal(terrain: Terrain, seed: int) -> tuple[RunState, list[Record]]:
    """A run in any order, up to any point, as it is recorded; each step has bought an answer."""
    chance, state, digests = random.Random(seed), RunState(terrain.routing, "run"), Digests()
    message = M0()
    first = terrain.codec.encode(message)
    records = [Record.of("run", 1, RecordKind.STARTED, "", NOW_S, first)]
    digests.note(message, digest_of(first))
    waiting: dict[str, Delivery] = {}

    def record(kind: RecordKind, path: str, data: bytes | None, inputs: bytes = b"") -> None:
        records.append(Record.of("run", len(records) + 1, kind, path, NOW_S, data, inputs))

    def heard(commands) -> None:
        for path in commands.cancelled:
            if chance.random() < 0.5:  # else it reports all the same
                waiting.pop(path, None)
        waiting.update({one.path: one for one in commands.deliveries})

    keep = []  # as the engine's envelopes do
    heard(state.start(message))
    left = chance.randrange(60)
    while waiting and len(records) < left:
        path = chance.choice(list(waiting))
        delivery = waiting.pop(path)
        record(RecordKind.ANSWER, f"{path}#1:request", json.dumps({"spend": {"prompt_tokens": 7}}).encode())
        if chance.random() < 0.1:
            record(RecordKind.FAILED, f"{path}#1", b"{}")
        if chance.random() < 0.05:
            heard(state.ended(path))
            record(RecordKind.ENDED, path, None)
            continue
        value = call(state.plan.nodes[delivery.node].function, **delivery.arguments)
        inputs = digests.of_inputs(delivery, terrain.codec.encode)
        heard(state.finished(path, value))
        data = terrain.codec.encode(value)
        note_parts(digests, terrain.codec, value, data)
        keep.append(value)
        record(RecordKind.FINISHED, path, data, inputs)
    return state, records


@settings(max_examples=100, deadline=None)
@given(graph=graphs, seed=st.integers(0, 2**16))
def test_the_adoption_of_an_unchanged_graph_is_exactly_a_replay(graph, seed):
    terrain = terrain_of(graph)
    try:
        state, records = journal(terrain, seed)
    except DeclarationError:  # a gather got what no fan-out encloses
        return

    adoption = Adoption("run", terrain, records, M0(), NOW_S, adopt=False)

    assert adoption.report.is_whole
    assert adoption.report.told == [[record.seq for record in records if record.kind in TOLD]]
    assert not adoption.report.without
    assert remembered(adoption.resumed.state) == remembered(state)
    plain = replay(RunState(terrain.routing, "run"), M0(), records[1:], terrain.codec, NOW_S)
    assert [step.path for step in plain.steps] == [step.path for step in adoption.resumed.steps]
    assert plain.past == adoption.resumed.past


@settings(max_examples=150, deadline=None)
@given(graph=graphs, other=graphs, seed=st.integers(0, 2**16))
def test_whatever_the_graph_becomes_each_step_is_accounted_for_and_later_lives_see_the_same(graph, other, seed):
    terrain, changed = terrain_of(graph), terrain_of(other)
    try:
        _, records = journal(terrain, seed)
        back = restored("run", records, changed, terrain.fingerprint, NOW_S, adopt=True)
    except DeclarationError:
        return
    except RunChanged:  # it does not take its input any more
        assume(False)
        raise
    report = back.report
    assert report is not None

    results = {step_of(record) for record in records if record.kind is RecordKind.FINISHED}
    listed = [*report.kept, *report.again, *report.dropped]
    assert len(set(listed)) == len(listed)
    assert results <= set(listed)
    paid = [step_of(record) for record in records if record.kind is RecordKind.ANSWER]
    given_up = {*report.again, *report.dropped}
    assert report.paid.answers == len([step for step in paid if step in given_up])
    assert report.paid.tokens == 7 * report.paid.answers
    assert all(
        step in set(listed) or step in {each.path for each in back.resumed.steps} | set(back.resumed.state.live_paths)
        for step in paid
    )

    assert back.adopted is not None
    adopted = Record.of("run", len(records) + 1, RecordKind.ADOPTED, "", NOW_S, back.adopted)
    counted, latest = effective([*records, adopted])
    assert latest == changed.fingerprint
    again = restored("run", [*records, adopted], changed, terrain.fingerprint, NOW_S)
    assert again.report is None
    assert remembered(again.resumed.state) == remembered(back.resumed.state)
    assert again.resumed.past == back.resumed.past
    kept = [record.seq for record in records if record.seq not in report.without]
    assert sorted(record.seq for record in counted if record.kind is not RecordKind.ADOPTED) == kept
