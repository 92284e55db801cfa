from __future__ import annotations

from tests.benchmarks.first_calls import PROGRAMS, TARGETS, sample


def test_importing_the_packages_loads_neither_of_the_slow_libraries() -> None:
    cpu_s, megabytes, libraries = sample(PROGRAMS["import actors, runtime"], "")

    assert cpu_s > 0
    assert megabytes > 0
    assert libraries == []


def test_every_target_is_of_a_row() -> None:
    assert set(TARGETS) <= set(PROGRAMS)
