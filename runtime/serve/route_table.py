"""Which route a request is for: paths without names by a look into a dict, others one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Generic, TypeVar, final

from runtime.embed.disconnects import Scope
from runtime.serve.web import HTTPException, compile_path

T = TypeVar("T")

_NO_NAMES: Final[Mapping[str, str]] = {}


@final
class RouteTable(Generic[T]):
    """What is served, by path and method; paths may hold names, as Starlette's do."""

    def __init__(self, routes: Iterable[tuple[str, str, T]]) -> None:
        """`routes` are paths, methods and what is there."""
        by_path: dict[str, dict[str, T]] = {}
        for path, method, what in routes:
            by_path.setdefault(path, {})[method] = what
        self._plain = {path: methods for path, methods in by_path.items() if "{" not in path}
        self._named: list[tuple[re.Pattern[str], Mapping[str, T]]] = [
            (compile_path(path)[0], methods) for path, methods in by_path.items() if "{" in path
        ]

    def find(self, scope: Scope) -> T:
        """What is at the path of the request, for its method; notes ``path_params`` in the scope. HEAD is what GET is.

        Raises:
            HTTPException: 404, there is nothing; 405, not for this method.
        """
        methods, names = self._methods(_path_of(scope))
        method = scope["method"]
        found = methods.get(method)
        if found is None and method == "HEAD":
            found = methods.get("GET")
        if found is None:
            raise HTTPException(405, headers={"Allow": ", ".join(methods)})
        scope["path_params"] = {**scope.get("path_params", _NO_NAMES), **names}
        return found

    def _methods(self, path: str) -> tuple[Mapping[str, T], Mapping[str, str]]:
        methods = self._plain.get(path)
        if methods is not None:
            return methods, _NO_NAMES
        for pattern, named in self._named:
            match = pattern.fullmatch(path)
            if match is not None:
                return named, match.groupdict()
        raise HTTPException(404)


def _path_of(scope: Scope) -> str:
    """The path of the request below where the service is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if not root or not path.startswith(root):
        return path
    below = path[len(root) :]
    return below if below[:1] in ("", "/") else path
