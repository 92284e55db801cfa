"""The options of ``spawn``, as type checkers and as the runtime know them."""

from __future__ import annotations

import inspect

import attrs

from actors import ChildSpec, SpawnOptions
from runtime.core.spawning import spawn_under


def test_the_options_of_spawn_are_fields_of_a_child_spec_and_each_is_passed_on():
    options = list(SpawnOptions.__annotations__)

    keywords = [p.name for p in inspect.signature(spawn_under).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert keywords == options
    assert set(options) <= {field.name for field in attrs.fields(ChildSpec)}
