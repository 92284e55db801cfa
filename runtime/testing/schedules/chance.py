"""Chance that a seed decides: ``uuid4``, the global ``random``, generators without a seed, and when garbage is collected.

Part of what makes two runs of a program differ; the rest is trio's own, see ``schedule``.
"""

from __future__ import annotations

import gc
import itertools
import random
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def chance_of(seed: int) -> Generator[None]:
    """No chance but that of `seed` while the block runs, for all of the process."""
    numbers, generators = itertools.count(1), itertools.count(1)
    former_uuid, former_state = uuid.uuid4, random.getstate()  # noqa: TID251 - to put it back
    former_seed, collects = random.Random.seed, gc.isenabled()

    def seed_or_number(generator: random.Random, a: Any = None, version: int = 2) -> None:
        former_seed(generator, f"generator {seed} {next(generators)}" if a is None else a, version)

    uuid.uuid4 = lambda: uuid.UUID(int=next(numbers), version=4)  # noqa: TID251 - it is what must not be random
    random.seed(seed)
    random.Random.seed = seed_or_number  # type: ignore[method-assign, assignment] # for generators that are made without a seed
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
        random.Random.seed = former_seed  # type: ignore[method-assign]
        random.setstate(former_state)
        uuid.uuid4 = former_uuid  # noqa: TID251
