"""The two random generators that the programs of Savina draw from, bit for bit: some results depend on them."""

from __future__ import annotations

import math
from typing import final

DEFAULT_SEED = 74755


@final
class PseudoRandom:
    """Savina's own generator: 16 bits of state, full period."""

    def __init__(self, seed: int = DEFAULT_SEED) -> None:
        self._value = seed

    def next_value(self) -> int:
        """The next state, in [0, 65536)."""
        self._value = (self._value * 1309 + 13849) & 65535
        return self._value

    def next_int(self, limit: int) -> int:
        """The next number in [0, limit)."""
        return self.next_value() % limit

    def next_double(self) -> float:
        """The next fraction; far from uniform, as in the original."""
        return 1.0 / (self.next_value() + 1)


@final
class JavaRandom:
    """``java.util.Random``: the linear congruential generator of 48 bits that its documentation prescribes."""

    _MULTIPLIER = 0x5DEECE66D
    _MASK = (1 << 48) - 1

    def __init__(self, seed: int) -> None:
        self._seed = (seed ^ self._MULTIPLIER) & self._MASK
        self._spare: float | None = None

    def _next(self, bits: int) -> int:
        self._seed = (self._seed * self._MULTIPLIER + 0xB) & self._MASK
        value = self._seed >> (48 - bits)
        return value - (1 << bits) if value >= 1 << (bits - 1) else value

    def next_int(self) -> int:
        """``nextInt()``: any 32-bit integer."""
        return self._next(32)

    def next_below(self, bound: int) -> int:
        """``nextInt(bound)``."""
        if bound & (bound - 1) == 0:
            return (bound * self._bits31()) >> 31
        while True:
            bits = self._bits31()
            value = bits % bound
            if bits - value + bound - 1 < 1 << 31:
                return value

    def _bits31(self) -> int:
        return self._next(31) & 0x7FFFFFFF

    def next_boolean(self) -> bool:
        """``nextBoolean()``."""
        return self._next(1) != 0

    def next_double(self) -> float:
        """``nextDouble()``: uniform in [0, 1)."""
        high = self._next(26) & ((1 << 26) - 1)
        return ((high << 27) + (self._next(27) & ((1 << 27) - 1))) / (1 << 53)

    def next_gaussian(self) -> float:
        """``nextGaussian()``: the polar method, which makes two at a time."""
        if self._spare is not None:
            spare, self._spare = self._spare, None
            return spare
        while True:
            first, second = 2 * self.next_double() - 1, 2 * self.next_double() - 1
            square = first * first + second * second
            if 0 < square < 1:
                scale = math.sqrt(-2 * math.log(square) / square)
                self._spare = second * scale
                return first * scale
