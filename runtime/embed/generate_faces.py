"""Makes the runtime's faces for asyncio and for threads: ``python -m runtime.embed.generate_faces``.

A face has what its native class has, name by name and parameter by parameter; what can block gets a ``timeout``. A test
compares the files with what this makes, so a change of a native signature is followed by a run of this.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

from actors.actor import ActorRef
from actors.lm import LM
from actors.supervision import SupervisorRef
from runtime.app import Runtime
from runtime.core.task_handle import TaskHandle
from runtime.graphs.conversations.conversations import Conversation
from runtime.graphs.deployment import Deployment
from runtime.graphs.handle import RunHandle

ROOT = Path(__file__).resolve().parents[2]
NATIVE: tuple[type, ...] = (Runtime, RunHandle, Deployment, Conversation, TaskHandle, ActorRef, SupervisorRef, LM)
"""In the order of the file. LM last: being a protocol, it recognises by their methods what nothing before it has claimed."""
ONLY = {Deployment: ("address", "is_running", "active_runs", "stop")}
"""Of classes that have methods for the runtime itself."""
NATIVE_ONLY: dict[type, tuple[str, ...]] = {Runtime: ("tools", "register")}
"""What only a trio program can use: what it gives is awaited there, by DSPy's agents too; or it cancels a block there."""
STREAMS = ("EventStream", "LMStream")
"""What is held open and iterated; their faces are written by hand."""
VARIABLES = ("In", "M", "Out")
"""Type variables; those of the faces are others, without variance."""
FACED = [*(native.__name__ for native in NATIVE), *STREAMS]


@attrs.frozen
class FaceKind:
    """One kind of face."""

    prefix: str
    base: str
    file: str
    title: str
    doc: str
    awaits: bool


HOSTS = (
    FaceKind(
        "Asyncio",
        "runtime.embed.asyncio_base",
        "runtime/embed/asyncio_faces.py",
        "The runtime's objects for coroutines of asyncio",
        "for coroutines of asyncio",
        awaits=True,
    ),
    FaceKind(
        "Portal",
        "runtime.embed.portal_base",
        "runtime/embed/portal_faces.py",
        "The runtime's objects for threads, which wait where a trio task would await",
        "for threads",
        awaits=False,
    ),
)


def render(host: FaceKind) -> str:
    """The file of one host's faces."""
    imports: dict[str, set[str]] = {"typing": {"final"}, host.base: {f"{host.prefix}Face"}}
    classes = [_render_class(host, native, imports) for native in NATIVE]
    lines = [f'"""{host.title}.\n\nMade by ``python -m runtime.embed.generate_faces``; not to be edited.\n"""', ""]
    lines += ["from __future__ import annotations", ""]
    lines += [f"import {name}" for name in sorted(name for name in imports if not imports[name])]
    lines += [f"from {name} import {', '.join(sorted(imports[name]))}" for name in sorted(imports) if imports[name]]
    return "\n".join([*lines, "", *classes])


def _render_class(host: FaceKind, native: type, imports: dict[str, set[str]]) -> str:
    definition, _ = _definition(native)
    bases = _render_bases(host, native, definition, imports)
    lines = [f"@final\nclass {host.prefix}{native.__name__}({bases}):", f'    """``{native.__name__}`` {host.doc}."""', ""]
    imports.setdefault(native.__module__, set()).add(native.__name__)
    for node, known in _members(native):
        if has_face(native, node.name):
            lines += _render_member(host, native, node)
            _add_imports(host, node, known, imports)
    return "\n".join(lines) + "\n"


def has_face(native: type, name: str) -> bool:
    """Whether a public member of `native` is in its faces."""
    return name not in NATIVE_ONLY.get(native, ()) and (native not in ONLY or name in ONLY[native])


def _members(native: type) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, dict[str, tuple[str, str | None]]]]:
    """The public members that the class and its bases of this package define, each with the names that its module knows."""
    for base in native.__mro__:
        if base.__module__.partition(".")[0] in ("actors", "runtime"):
            definition, known = _definition(base)
            for node in definition.body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                    yield node, known


def _definition(native: type) -> tuple[ast.ClassDef, dict[str, tuple[str, str | None]]]:
    """How a class is written, and the names that its module knows."""
    module = sys.modules[native.__module__]
    tree = ast.parse(inspect.getsource(module))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == native.__name__)
    return found, _names_of(tree, module.__name__)


def _render_bases(host: FaceKind, native: type, definition: ast.ClassDef, imports: dict[str, set[str]]) -> str:
    generic = [ast.unparse(base) for base in definition.bases if ast.unparse(base).startswith("Generic[")]
    if not generic:
        return f"{host.prefix}Face[{native.__name__}], of={native.__name__}"
    given = generic[0].removeprefix("Generic")
    imports[host.base] |= set(given.strip("[]").split(", "))
    imports["typing"].add("Generic")
    return f"{host.prefix}Face[{native.__name__}{given}], {generic[0]}, of={native.__name__}"


def _render_member(host: FaceKind, native: type, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    decorators = [ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list]
    returns = faced(host, ast.unparse(node.returns)) if node.returns is not None else "None"
    blocks = isinstance(node, ast.AsyncFunctionDef)
    streams = _stream_of(node)
    wraps = any(name in returns for name in (host.prefix + name for name in FACED))
    if streams:
        returns = host.prefix + _stream_type(node, streams)
    if "property" in decorators:
        yield "    @property"
    if "overload" in decorators:
        yield "    @overload"
    noqa = "  # noqa: A002" if any(argument.arg == "id" for argument in node.args.args) else ""
    color = "async " if blocks and host.awaits else ""
    yield f"    {color}def {node.name}({_parameters(host, node, timeout=blocks or bool(streams))}) -> {returns}:{noqa}"
    if "overload" in decorators:
        yield "        ..."
        return
    yield f'        """See ``{native.__name__}.{node.name}``."""'
    expression = _body(host, node, "property" in decorators, blocks, streams)
    if streams or returns in VARIABLES:
        yield f"        result: {returns} = {expression}"
        expression = "result"
    elif wraps:
        yield f"        face: {returns} = self._face({expression})"
        expression = "face"
    yield f"        return {expression}"
    yield ""


def _body(host: FaceKind, node: ast.FunctionDef | ast.AsyncFunctionDef, is_property: bool, blocks: bool, streams: str) -> str:
    call = f"self._native.{node.name}"
    if not is_property:
        given = _arguments(node)
        call = ", ".join(filter(None, [call, given]))
        if streams:
            return f"self._stream({host.prefix}{streams}, timeout, {call})"
        waits = "await " if host.awaits else ""
        call = f"{waits}self._cross(timeout, {call})" if blocks else f"self._call({call})"
    return call


def _stream_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The name of the stream that `node` returns; empty when it returns none."""
    returns = ast.unparse(node.returns) if node.returns is not None else ""
    return next((name for name in STREAMS if re.search(rf"\b{name}\b", returns)), "")


def _stream_type(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> str:
    """The stream that `node` returns, as it is written there: ``EventStream[AnyEvent]``."""
    parts = ast.walk(node.returns) if node.returns is not None else ()
    return next(
        (ast.unparse(part) for part in parts if isinstance(part, ast.Subscript) and ast.unparse(part.value) == name), name
    )


def _parameters(host: FaceKind, node: ast.FunctionDef | ast.AsyncFunctionDef, *, timeout: bool) -> str:
    given = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(given, ast.FunctionDef | ast.AsyncFunctionDef)
    if timeout:
        given.args.kwonlyargs.append(ast.arg("timeout", ast.parse("float | None", mode="eval").body))
        given.args.kw_defaults.append(ast.Constant(None))
    return faced(host, ast.unparse(given.args))


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    names = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args] if argument.arg != "self"]
    names += [f"*{node.args.vararg.arg}"] if node.args.vararg else []
    names += [f"{argument.arg}={argument.arg}" for argument in node.args.kwonlyargs]
    names += [f"**{node.args.kwarg.arg}"] if node.args.kwarg else []
    return ", ".join(names)


def faced(host: FaceKind, annotation: str) -> str:
    """`annotation` with the host's faces in the place of what they are before."""
    return re.sub(rf"\b({'|'.join(FACED)})\b", rf"{host.prefix}\1", annotation)


def _names_of(tree: ast.Module, module: str) -> dict[str, tuple[str, str | None]]:
    """Where each global name of a module comes from: its module and its name there; None for a module itself."""
    known: dict[str, tuple[str, str | None]] = {}
    for node in tree.body:
        match node:
            case ast.Import(names=names):
                known |= {alias.name: (alias.name, None) for alias in names}
            case ast.ImportFrom(module=str(source), names=names):
                known |= {alias.name: (source, alias.name) for alias in names}
            case ast.ClassDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                known[name] = (module, name)
            case _:
                pass
    return known


def _add_imports(
    host: FaceKind,
    node: ast.FunctionDef | ast.AsyncFunctionDef,
    known: dict[str, tuple[str, str | None]],
    imports: dict[str, set[str]],
) -> None:
    parts: list[ast.AST] = [
        node.args,
        *(each for each in node.decorator_list if ast.unparse(each) == "overload"),
        *([node.returns] if node.returns is not None else []),
    ]
    if streams := _stream_of(node):
        imports[host.base].add(host.prefix + streams)
        parts[-1] = ast.parse(_stream_type(node, streams))
    for name in (part.id for root in parts for part in ast.walk(root) if isinstance(part, ast.Name)):
        if name in FACED or name not in known or name == "abstractmethod":
            continue
        if name in VARIABLES:
            imports[host.base].add(name)
            continue
        module, inside = known[name]
        imports.setdefault(module, set())
        if inside is not None:
            imports[module].add(inside)


def main() -> None:
    """Write the files of all hosts."""
    for host in HOSTS:
        file = ROOT / host.file
        file.write_text(render(host), encoding="utf-8")
        subprocess.run([sys.executable, "-m", "ruff", "check", "-q", "--fix-only", "--select", "I", str(file)], check=False)
        subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(file)], check=False)


if __name__ == "__main__":
    main()
