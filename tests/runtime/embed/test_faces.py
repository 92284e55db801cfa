"""The faces for asyncio and for threads have what the trio-native classes have, and nothing is written by hand."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.embed import asyncio_faces, portal_faces
from runtime.embed.generate_faces import HOSTS, NATIVE, ROOT, STREAMS, FaceKind, faced, has_face, render

MODULES = {"Asyncio": asyncio_faces, "Portal": portal_faces}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.prefix)
def test_the_faces_are_what_the_generator_makes(host: FaceKind) -> None:
    """Run ``make faces`` after a change of a native signature."""
    written = (ROOT / host.file).read_text(encoding="utf-8")

    assert tree_of(written) == tree_of(render(host))


def tree_of(source: str) -> list[str]:
    """The parts of a module whatever their layout and the order of its imports."""
    return sorted(
        name
        for node in ast.parse(source).body
        for name in ([f"{ast.dump(alias)} of {origin(node)}" for alias in imported(node)] or [ast.dump(node)])
    )


def imported(node: ast.stmt) -> list[ast.alias]:
    return node.names if isinstance(node, ast.Import | ast.ImportFrom) else []


def origin(node: ast.stmt) -> str | None:
    return node.module if isinstance(node, ast.ImportFrom) else None


def members(native: type) -> Iterator[str]:
    for name, member in vars(native).items():
        is_public = not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
        if is_public and has_face(native, name):
            yield name


CASES = [(host, native, name) for host in HOSTS for native in NATIVE for name in members(native)]


@pytest.mark.parametrize(
    ("host", "native", "name"), CASES, ids=lambda value: getattr(value, "prefix", getattr(value, "__name__", value))
)
def test_a_member_has_the_native_signature_and_a_timeout_where_it_may_wait(host: FaceKind, native: type, name: str) -> None:
    ours: Any = vars(getattr(MODULES[host.prefix], host.prefix + native.__name__))[name]
    theirs: Any = vars(native)[name]

    assert isinstance(ours, property) == isinstance(theirs, property)
    if isinstance(theirs, property):
        ours, theirs = ours.fget, theirs.fget
    expected = inspect.signature(theirs)
    found = inspect.signature(ours)
    waits = inspect.iscoroutinefunction(theirs) or any(name in str(expected.return_annotation) for name in STREAMS)
    assert inspect.iscoroutinefunction(ours) == (host.awaits and inspect.iscoroutinefunction(theirs))
    assert ("timeout" in found.parameters) == waits
    assert [shape(host, parameter) for parameter in found.parameters.values() if parameter.name != "timeout"] == [
        shape(host, parameter) for parameter in expected.parameters.values()
    ]


def shape(host: FaceKind, parameter: inspect.Parameter) -> tuple[str, object, object, str]:
    return (
        parameter.name,
        parameter.kind,
        parameter.default,
        faced(host, str(parameter.annotation)).replace(host.prefix * 2, host.prefix),
    )
