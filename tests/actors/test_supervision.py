from __future__ import annotations

from typing import Any, cast

import pytest

from actors import ChildSpec, DeclarationError, Directive, Supervision, supervisor_spec
from actors.supervision import check_children


def worker(*args: Any) -> Any:
    raise NotImplementedError


class Weather(OSError):
    pass


def test_directives_are_found_along_the_classes_most_specific_first():
    supervision = Supervision(on_error={OSError: Directive.STOP, Weather: Directive.RESUME})

    assert supervision.directive(Weather()) is Directive.RESUME
    assert supervision.directive(FileNotFoundError()) is Directive.STOP
    assert supervision.directive(ValueError()) is Directive.RESTART
    assert Supervision().directive(ValueError()) is Directive.RESTART


def test_a_group_gets_the_gravest_directive_of_its_leaves():
    supervision = Supervision(on_error={OSError: Directive.RESUME, KeyError: Directive.ESCALATE, ValueError: Directive.STOP})

    def of(*errors):
        return supervision.directive(ExceptionGroup("", errors))

    assert of(OSError(), OSError()) is Directive.RESUME
    assert of(OSError(), RuntimeError()) is Directive.RESTART
    assert of(OSError(), ValueError()) is Directive.STOP
    assert of(OSError(), ExceptionGroup("", [ValueError(), KeyError()])) is Directive.ESCALATE


def test_what_is_no_child_is_refused():
    with pytest.raises(DeclarationError, match=r"^children: expected ChildSpec or supervisor_spec\(…\)\. Got: 'worker'\."):
        supervisor_spec("s", cast("Any", ["worker"]))
    check_children([ChildSpec("a", worker), supervisor_spec("b")], Supervision())


def test_arguments_are_kept_as_a_tuple():
    assert ChildSpec("a", worker, args=[1, 2]).args == (1, 2)
