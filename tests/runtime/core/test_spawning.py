"""The options of ``spawn``, as type checkers and as the runtime know them."""

from __future__ import annotations

import attrs

from actors import ChildSpec, SpawnOptions


def test_the_options_of_spawn_are_fields_of_a_child_spec_of_the_same_name():
    options = list(SpawnOptions.__annotations__)

    assert set(options) <= {field.name for field in attrs.fields(ChildSpec)}
