from tests.benchmarks.lm_calls import measure, peers


def test_every_peer_is_measured():
    medians = measure([2], rounds=1)

    assert set(medians) == {(name, 2) for name in peers()}
    assert all(sample.cpu_s > 0 and sample.makespan_s >= 0.05 for sample in medians.values())
