"""What ``open_runtime()`` returns: a runtime that is not open yet; it raises with the fix when used before ``async with``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, final

from actors.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")


@final
class Opening(AbstractAsyncContextManager[T], Generic[T]):
    """An async context manager that raises with the fix when it is taken for what it gives."""

    def __init__(self, manager: AbstractAsyncContextManager[T], what: str) -> None:
        self._manager = manager
        self._what = what

    async def __aenter__(self) -> T:
        return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, traceback)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._not_open(f".{name}", f"    … runtime.{name}")

    def __await__(self) -> NoReturn:
        raise self._not_open(" was awaited", "    …")

    def __enter__(self) -> NoReturn:
        raise self._not_open(" was entered with a plain 'with'", "    …")

    def __exit__(self, *_: object) -> None:
        """Python looks for it before it calls ``__enter__``."""

    def _not_open(self, used: str, then: str) -> UsageError:
        return UsageError(
            f"{self._what}{used}: nothing is open yet; it opens with 'async with', and closes with the end of that block.\n"
            f"  Fix: async with {self._what} as runtime:\n{then}"
        )


def explained(function: Callable[P, AbstractAsyncContextManager[T]]) -> Callable[P, Opening[T]]:
    """A decorator above ``@asynccontextmanager``."""

    @functools.wraps(function)
    def opening(*args: P.args, **kwargs: P.kwargs) -> Opening[T]:
        return Opening(function(*args, **kwargs), f"{function.__name__}(…)")

    return opening
