from __future__ import annotations

import pytest

from tests.savina.randomness import JavaRandom, PseudoRandom


def test_the_generator_of_savina_has_its_full_period() -> None:
    draw = PseudoRandom().next_value

    assert len({draw() for _ in range(65_536)}) == 65_536


def test_the_numbers_that_quicksort_sorts_at_full_size_have_the_known_sum() -> None:
    draw = PseudoRandom(1024).next_value

    assert sum(draw() for _ in range(1_000_000)) == 32_768_134_304


def test_the_numbers_that_bitonic_sort_sorts_at_full_size_have_the_known_sum() -> None:
    draw = PseudoRandom(2048).next_value

    assert sum(draw() for _ in range(4096)) == 135_063_552


def test_the_generator_of_java_gives_what_java_gives() -> None:
    """From `new java.util.Random(42)`."""
    integers, doubles = JavaRandom(42), JavaRandom(42)

    assert [integers.next_int() for _ in range(4)] == [-1170105035, 234785527, -1360544799, 205897768]
    assert doubles.next_double() == 0.7275636800328681
    assert JavaRandom(42).next_gaussian() == pytest.approx(1.1419053154730547, rel=1e-15)
    assert JavaRandom(42).next_below(10) == 0
