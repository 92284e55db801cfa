"""Which shard a key belongs to: the same one in every process and release, or two owners would each have an actor of it."""

from __future__ import annotations

import json
from collections.abc import Hashable
from hashlib import blake2s
from typing import Final, cast
from uuid import UUID

from actors.placement_errors import NotPortable
from actors.words import repr_of

SHARDS: Final = 256
"""How many there are of one router."""
MAX_ADDRESS: Final = 100


def shard_of(key: Hashable) -> int:
    """The number of the shard of a key.

    Raises:
        NotPortable: it is of no type that has the same text in every process.
    """
    digest = blake2s(_text_of(key).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % SHARDS


def name_of_shard(number: int, address: str) -> str:
    """Under what name a store knows a shard of the router at `address`."""
    if len(address) > MAX_ADDRESS:
        address = f"{address[-80:]} {blake2s(address.encode(), digest_size=8).hexdigest()}"
    return f"shard {number} of {address}"


def _text_of(key: object) -> str:
    kind = type(key)
    if kind is str:
        return f"s{key}"
    if kind is int or kind is UUID:
        return f"{kind.__name__[0]}{key}"
    if isinstance(key, bytes):
        return f"b{key.hex()}"
    if isinstance(key, tuple):
        return "t" + json.dumps([_text_of(each) for each in cast("tuple[object, ...]", key)])
    raise NotPortable(
        f"the key {repr_of(key)} cannot be told to other owners of the store.\n"
        "  Fix: let key= return a text, a whole number, bytes, a UUID, or a tuple of these.",
        type=kind.__name__,
    )
