"""What stands for an actor where one is started: its class or factory, its ``receive``, its lifespan, its arguments.

Checked where it is written, in ``spawn``, ``ChildSpec`` and ``graph.add``: what is wrong with it would otherwise come up at the
first message, as an error of Python's or trio's that names none of the author's code, restart after restart. Only plain
functions are checked. A callable object, a mock or a wrapped function may do anything, and its mistakes show when it runs.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import math
import types
import typing
import weakref
from collections.abc import Sequence
from typing import Any, Final, TypeGuard, final

import attrs

from actors.actor import Actor
from actors.argument_checks import COROUTINE, unawaited
from actors.errors import DeclarationError, UsageError
from actors.words import kind_of, repr_of

_RECEIVE: Final = "async def receive(self, message): …"
_LIFESPAN: Final = "@contextlib.asynccontextmanager above async def lifespan(self), with one yield in it."
_SOUND: weakref.WeakSet[type] = weakref.WeakSet()
"""Actor classes whose methods were looked at and have no mistake, so only the first start of each pays for the look."""
_FITTING: weakref.WeakKeyDictionary[type, set[int]] = weakref.WeakKeyDictionary()
"""Classes that were found fit to be factories, each with the numbers of arguments with which it was."""


@final
@attrs.frozen
class Written:
    """How a call that starts actors is written, for messages about it."""

    call: str
    """``spawn``, ``ChildSpec`` or ``add``."""
    id: str | None = None
    """The first argument of a ``ChildSpec``."""
    at: str = ""
    """`` (file.py:line)``, where that is known."""

    def head(self, shown: str) -> str:
        """The call with what was wrong in it, as the beginning of a message."""
        return f"{self.call}({'' if self.id is None else 'factory='}{shown}){self.at}"

    def line(self, factory: str, *args: str) -> str:
        """The call as it should be."""
        if self.id is None:
            return f"{self.call}({', '.join([factory, *args])})"
        given = f", args=({', '.join(args)}{',' if len(args) == 1 else ''})" if args else ""
        return f"{self.call}({self.id!r}, {factory}{given})"


def check_factory(factory: object, args: Sequence[object], call: str, id: str | None = None, at: str = "") -> None:  # noqa: A002
    """Raise for what cannot make an actor when it is called with `args`; the others are the fields of :class:`Written`.

    Raises:
        DeclarationError: an instance, a coroutine, a function that is async, a class that isn't an actor or whose methods the
            runtime cannot call; too many arguments, too few, or one that was not awaited.
    """
    if isinstance(factory, type) and len(args) in _FITTING.get(factory, ()) and COROUTINE not in map(type, args):
        return  # nearly always
    written = Written(call, id, at)
    for arg in args:
        if type(arg) is COROUTINE:
            raise DeclarationError(
                f"{written.head(_name(factory))}: one of its arguments is a coroutine that was not awaited.\n"
                f"  Fix: pass {unawaited(arg)}."
            )
    called, bound = _called_by(factory)
    _check_kind(called, args, written)
    kind = actor_class(called)
    if kind is not None:
        check_actor(kind, written.head(kind.__name__))
    if bound is not None:
        _check_arguments(called, len(args) + bound, written)
    if isinstance(factory, type):
        _FITTING.setdefault(factory, set()).add(len(args))


def actor_class(value: object) -> type[Actor[Any]] | None:
    """`value`, if it is a class derived from ``Actor``."""
    return value if _is_class(value) else None


def is_actor(value: object) -> TypeGuard[Actor]:
    """``isinstance(value, Actor)``, after which pyright knows ``Actor[Any]`` instead of an unknown one."""
    return isinstance(value, Actor)


def _is_class(value: object) -> TypeGuard[type[Actor]]:
    return isinstance(value, type) and issubclass(value, Actor)


def _called_by(factory: Any) -> tuple[object, int | None]:
    """The class or function behind ``functools.partial`` and ``Ledger[int]``, and how many arguments are bound to it.

    None: some are bound by name, and then it is left to Python to fit the others in.
    """
    bound: int | None = 0
    while isinstance(factory, functools.partial):
        bound = None if bound is None or factory.keywords else bound + len(factory.args)
        factory = factory.func
    return typing.get_origin(factory) or factory, bound


def _check_kind(called: object, args: Sequence[object], written: Written) -> None:
    if is_actor(called):
        name = kind_of(called)
        raise DeclarationError(
            f"{written.head(f'<{name} instance>')}: an instance would be shared by all incarnations.\n"
            f"  Fix: pass the class or a function that makes one, {written.line(name, '…')}."
        )
    call = unawaited(called)
    if call is not None:
        raise DeclarationError(
            f"{written.head('<coroutine>')}: the factory was called, and what it returned is a coroutine.\n"
            f"  Fix: pass the class or the function itself, and make it a plain def: {written.line(_name_in(call))}."
        )
    if not callable(called):
        fix = "pass an Actor class or a function that returns a new Actor as 'factory'."
        if isinstance(called, str) and args and callable(args[0]) and written.id is None:
            fix = f"{written.line(_name(args[0]))[:-1]}, name={called!r})."
        raise DeclarationError(
            f"{written.head(repr_of(called))}: expected an Actor class or a function that returns a new Actor.\n  Fix: {fix}"
        )
    if isinstance(called, type):
        if not issubclass(called, Actor) and not isinstance(called.__new__, types.FunctionType):
            is_own = called.__module__ != "builtins"
            fix = f"class {called.__name__}(Actor):" if is_own else "pass a class that does, or a function that makes an actor."
            raise DeclarationError(
                f"{written.head(called.__name__)}: the class {called.__name__} does not derive from Actor.\n  Fix: {fix}"
            )
    elif inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        name = _name(called)
        raise DeclarationError(
            f"{written.head(name)}: the factory {name} is async, and a factory is called, not awaited{_place(called)}.\n"
            f"  Fix: def {name}(…); what has to wait goes into the actor's lifespan()."
        )


# --- the class --------------------------------------------------------------------------------------------------------


def check_actor(kind: type[Actor], head: str) -> None:
    """Raise for an actor class whose ``receive`` or ``lifespan`` the runtime cannot call; `head` begins the message.

    Raises:
        DeclarationError: it has no ``receive``, a plain ``def`` or one of other parameters, or a lifespan of the wrong kind.
    """
    if kind in _SOUND:
        return
    _check_receive(kind, head)
    _check_lifespan(kind, head)
    _SOUND.add(kind)


def _check_receive(kind: type[Actor], head: str) -> None:
    abstract: frozenset[str] = getattr(kind, "__abstractmethods__", frozenset())
    name = kind.__name__
    if "receive" in abstract:
        own = [key for base in kind.__mro__ if base not in (Actor, object) for key in vars(base) if not key.startswith("__")]
        near = difflib.get_close_matches("receive", own, n=1)
        fix = f"rename {near[0]}() to receive()." if near else f"{_RECEIVE}"
        raise DeclarationError(f"{head}: {name} has no receive(), which handles its messages.\n  Fix: {fix}")
    if abstract:
        missing = ", ".join(sorted(abstract))
        raise DeclarationError(f"{head}: {name} is abstract: it does not define {missing}.\n  Fix: define it in {name}.")
    receive = _plain(kind, "receive")
    if receive is None:
        return
    check_handler(receive, f"{head}: receive() of {name}", _RECEIVE)
    least, most, names, by_name = _takes(receive)
    if not least <= 2 <= most or by_name:
        taken = ", ".join([*names, *by_name])
        fix = _RECEIVE if most < 2 else f"{_RECEIVE} with one message that has what it needs as its fields."
        raise DeclarationError(
            f"{head}: receive() of {name} is called with one message, and takes ({taken}){_place(receive)}.\n  Fix: {fix}"
        )


def check_handler(handler: object, what: str, fix: str) -> None:
    """Raise for a plain function that returns nothing to wait for; `what` names it.

    Raises:
        DeclarationError: it is a ``def`` or an async generator.
    """
    function = handler.__func__ if isinstance(handler, types.MethodType) else handler
    if not isinstance(function, types.FunctionType) or hasattr(function, "__wrapped__") or inspect.iscoroutinefunction(function):
        return
    if inspect.isasyncgenfunction(function):
        raise DeclarationError(
            f"{what} yields, and a message has one answer{_place(function)}.\n"
            f"  Fix: return the answer; or tell() the items to the actor that wants them."
        )
    if any(word in _returned(function) for word in ("Awaitable", "Coroutine", "Future")):
        return
    raise DeclarationError(f"{what} is a plain def, and its result is awaited{_place(function)}.\n  Fix: {fix}")


def _returned(function: types.FunctionType) -> str:
    try:
        return str(function.__annotations__.get("return"))
    except Exception:  # noqa: BLE001 - from Python 3.14 on that evaluates them, and they may name what is not there
        return "Awaitable"


def _check_lifespan(kind: type[Actor], head: str) -> None:
    if kind.lifespan is Actor.lifespan:
        return
    lifespan: object = inspect.getattr_static(kind, "lifespan")
    if not isinstance(lifespan, types.FunctionType):
        return
    what = f"{head}: lifespan() of {kind.__name__}"
    inner: object = getattr(lifespan, "__wrapped__", None)
    if inner is None:
        is_wrong = inspect.isgeneratorfunction(lifespan) or inspect.iscoroutinefunction(lifespan)
        if is_wrong or inspect.isasyncgenfunction(lifespan):
            raise DeclarationError(f"{what} returns no async context manager{_place(lifespan)}.\n  Fix: {_LIFESPAN}")
        function: object = lifespan
    else:
        function = inner
        is_contextlibs = lifespan.__code__.co_filename == contextlib.__file__
        if is_contextlibs and isinstance(inner, types.FunctionType) and not inspect.isasyncgenfunction(inner):
            raise DeclarationError(f"{what} isn't an async generator{_place(inner)}.\n  Fix: {_LIFESPAN}")
    if isinstance(function, types.FunctionType) and (lifespan is function or function.__name__ == "lifespan"):
        least, most, names, by_name = _takes(function)
        if not least <= 1 <= most or by_name:
            raise DeclarationError(
                f"{what} is called without arguments, and takes ({', '.join([*names, *by_name])}){_place(function)}.\n"
                "  Fix: async def lifespan(self): …"
            )


def check_lifespan(manager: object, actor: Actor) -> None:
    """Check what a lifespan returned.

    Raises:
        DeclarationError: it isn't an async context manager.
    """
    if not hasattr(type(manager), "__aenter__") or not hasattr(type(manager), "__aexit__"):
        call = unawaited(manager)
        got = "a coroutine" if call is not None else kind_of(manager)
        raise DeclarationError(
            f"lifespan() of {kind_of(actor)} returned {got}, expected an async context manager.\n  Fix: {_LIFESPAN}"
        )


# --- what a factory made ----------------------------------------------------------------------------------------------


def checked(actor: object, address: str) -> Actor:
    """What the factory of `address` returned, if it can run as an actor.

    Raises:
        DeclarationError: it is none, or its methods cannot be called.
    """
    if is_actor(actor):
        check_actor(type(actor), f"{address!r}")
        return actor
    got, fix = kind_of(actor), "give a subclass of actors.Actor, or a function that returns a new instance of one."
    call = unawaited(actor)
    if call is not None:
        got, fix = "a coroutine", "let it be a plain def that returns the actor; what has to wait goes into its lifespan()."
    elif actor is None:
        fix = "return the actor at the end of the factory."
    elif isinstance(actor, type) and issubclass(actor, Actor):
        got, fix = f"the class {actor.__name__}", f"pass the class itself as the factory, or return {actor.__name__}(…)."
    raise DeclarationError(f"the factory of {address!r} returned {got}, expected an Actor.\n  Fix: {fix}")


def context_too_early(error: AttributeError) -> UsageError | None:
    """The error for a factory that failed because ``self.context`` is not there yet; None if it failed for something else."""
    owner: object = error.obj
    if error.name != "context" or not is_actor(owner):
        return None
    return UsageError(
        f"{kind_of(owner)}.__init__ uses self.context, which the runtime sets only after it.\n"
        "  Fix: do it in lifespan(), which runs before the first message, or when a message comes."
    )


# --- arguments --------------------------------------------------------------------------------------------------------


def _check_arguments(called: object, given: int, written: Written) -> None:
    function = called if isinstance(called, types.FunctionType) else None
    own = 0  # parameters that Python fills itself
    if isinstance(called, type):
        function, own = _constructor(called), 1
        if function is None:
            if _attribute(called, "__init__") is object.__init__ and _attribute(called, "__new__") is object.__new__ and given:
                raise DeclarationError(
                    f"{written.head(f'{called.__name__}, …')}: {called.__name__} has no __init__ and takes no arguments, "
                    f"and {given} came.\n  Fix: {written.line(called.__name__)}, or give {called.__name__} an __init__."
                )
            return
    if function is None or hasattr(function, "__wrapped__"):
        return
    least, most, names, by_name = _takes(function)
    name, least, most, names = _name(called), least - own, most - own, names[own:]
    if least <= given <= most and not by_name:
        return
    needed = names[: max(least, 0)]
    head = written.head(name if not given else f"{name}, …")
    signature = f"{name}({_signature(function, own)})"
    if by_name:
        keywords = ", ".join(f"{key}=…" for key in by_name)
        raise DeclarationError(
            f"{head}: {signature} takes {' and '.join(map(repr, by_name))} by name only, and arguments are passed by position.\n"
            f"  Fix: {written.line(f'functools.partial({name}, {keywords})', *needed)}"
        )
    if given < least:
        missing = ", ".join(names[given:least])
        what = f"needs {missing}, which {'is' if least - given == 1 else 'are'} missing"
        line = written.line(name, *needed)
    else:
        what = f"takes {f'{most:g}' if most else 'no'} argument{'' if most == 1 else 's'}, and {given} came"
        line = written.line(name, *names[: int(most)])
    raise DeclarationError(f"{head}: {signature} {what}.\n  Fix: {line}")


def check_call(function: object, args: Sequence[object], call: str) -> None:
    """Raise for a call of a plain function with a wrong number of arguments; `call` is the name of the method that makes it.

    Raises:
        DeclarationError: there are too many arguments, or too few.
    """
    if isinstance(function, types.FunctionType):
        _check_arguments(function, len(args), Written(call))


def _constructor(kind: type) -> types.FunctionType | None:
    """The ``__init__`` that is called with the arguments, if nothing else sees them before."""
    plain_call = _attribute(type(kind), "__call__") is type.__call__ and _attribute(kind, "__new__") is object.__new__
    made = _attribute(kind, "__init__")
    return made if plain_call and isinstance(made, types.FunctionType) else None


def _attribute(kind: type, name: str) -> object:
    """``kind.name``, of which type checkers would say what they think that it is."""
    return getattr(kind, name)


def _takes(function: types.FunctionType) -> tuple[int, float, Sequence[str], Sequence[str]]:
    """How many arguments by position at least and at most, their names, and the names of those that must be given by name."""
    code, defaults = function.__code__, function.__defaults__ or ()
    count = code.co_argcount
    most = math.inf if code.co_flags & inspect.CO_VARARGS else count
    by_name = code.co_varnames[count : count + code.co_kwonlyargcount]
    return count - len(defaults), most, code.co_varnames[:count], [n for n in by_name if n not in (function.__kwdefaults__ or {})]


def _signature(function: types.FunctionType, own: int) -> str:
    """The parameters without annotations, which may not be there to evaluate, and without the first `own`."""
    code = function.__code__
    names, count, by_name = code.co_varnames, code.co_argcount, code.co_kwonlyargcount
    defaults = dict(zip(reversed(names[:count]), reversed(function.__defaults__ or ()), strict=False))
    defaults.update(function.__kwdefaults__ or {})
    shown = [f"{name}={repr_of(defaults[name], 40)}" if name in defaults else name for name in names[: count + by_name]]
    rest = count + by_name
    if code.co_flags & inspect.CO_VARARGS:
        shown.insert(count, f"*{names[rest]}")
        rest += 1
    elif by_name:
        shown.insert(count, "*")
    if code.co_flags & inspect.CO_VARKEYWORDS:
        shown.append(f"**{names[rest]}")
    return ", ".join(shown[own:])


def _plain(kind: type, name: str) -> types.FunctionType | None:
    found: object = inspect.getattr_static(kind, name, None)
    return found if isinstance(found, types.FunctionType) and not hasattr(found, "__wrapped__") else None


def _name(called: object) -> str:
    name: object = getattr(called, "__name__", None)
    return name if isinstance(name, str) else kind_of(called)


def _name_in(call: str) -> str:
    return call.removeprefix("await ").removesuffix("(…)")


def _place(function: object) -> str:
    code = getattr(function, "__code__", None)
    return f" ({code.co_filename}:{code.co_firstlineno})" if isinstance(code, types.CodeType) else ""
