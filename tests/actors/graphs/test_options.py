"""The options of a node, as type checkers know them."""

from __future__ import annotations

import attrs

from actors.graphs.options import NodeKeywords, NodeOptions, PredictOptions


def test_the_keywords_of_a_node_are_the_fields_of_its_options():
    fields = [field.name for options in (NodeOptions, PredictOptions) for field in attrs.fields(options)]

    assert list(NodeKeywords.__annotations__) == fields
