import pytest

from runtime.testing.models.process import loopback_process
from tests.benchmarks.lm_calls import BASELINE, DSPY, FLOOR, OURS, Sample, load_all, measure, table, verdicts
from tests.benchmarks.lm_graphs import memory_of_crowds, three_nodes
from tests.benchmarks.lm_storms import verdicts as storms
from tests.benchmarks.lm_works import JOBS, LATENCY_S, MODELS, SLOW_S, Job

LIGHT = ("h11_streams", "httpx_constant", "ours", "httpx_stock", "aiohttp_session")


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.chaos
def test_every_client_that_can_do_a_job_is_measured(job: Job):
    peers = load_all(lambda module, reason: None, LIGHT)  # the others take seconds to import
    with loopback_process(MODELS, latency_s=LATENCY_S) as provider:
        samples = measure(peers, provider.api_base, job, 2, rounds=1, calls=2)

    assert set(samples) == {peer.name for peer in peers if job in peer.jobs}
    assert OURS in samples
    assert all(sample.cpu_s > 0 and sample.makespan_s >= LATENCY_S for sample in samples.values())
    assert table(job, 2, samples).startswith(f"{job}, 2 at once, 50 ms each")


def test_every_target_has_its_line():
    row = {
        ("chat", 1, BASELINE): Sample(1, 1),
        ("chat", 1, OURS): Sample(1.05, 1),
        ("chat", 100, FLOOR): Sample(0.5, 1),
        ("chat", 100, BASELINE): Sample(1, 1),
        ("chat", 100, OURS): Sample(1.6, 1.31),
        ("stream", 3, BASELINE): Sample(1, 1),
        ("stream", 3, OURS): Sample(1.4, 1),
        ("predict", 3, DSPY): Sample(10, 1),
        ("predict", 3, OURS): Sample(5.1, 1),
    }
    samples: dict[tuple[Job, int, str], Sample] = dict(row)  # type: ignore[arg-type]

    assert list(verdicts(samples)) == [
        "target: chat, 1 at once: CPU 1.05 × httpx, O(1) pool, at most 1.05: met",
        "target: chat, 100 at once: CPU 1.60 × httpx, O(1) pool, at most 1.05: MISSED",
        "target: chat, 100 at once: time of a round 1.31 × h11, at most 1.3: MISSED",
        "target: stream, 3 at once: CPU 1.40 × httpx, O(1) pool, at most 1.3: MISSED",
        "target: predict, 3 at once: CPU 0.51 × dspy.Predict, at most 0.4: MISSED",
    ]


@pytest.mark.chaos
def test_the_measurements_of_graphs_run():
    with loopback_process(MODELS, latency_s=0.0) as provider:
        assert three_nodes(provider.api_base) >= SLOW_S
        early, late = memory_of_crowds(provider.api_base, width=5)

    assert early > 0
    assert late > 0


def test_crowds_at_a_limit_are_measured_in_exact_time():
    assert list(storms()) == [
        "target: 200 callers, 10 at once, 10 in a second: 20.0 s, 32 turned away, 0 failed; at most 1.1 × 20 s, 60 and 0: met",
        "target: 200 callers, rpm=60: 141.0 s, 0 turned away, 0 failed; at most 1.1 × 141 s, 60 and 0: met",
    ]
