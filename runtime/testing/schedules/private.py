"""Is this the trio we know? The private names that the harness takes hold of, and the error for a trio without them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from actors.errors import InternalError

NAMES = {
    "trio._core._run": (
        "CancelStatus",
        "CancelStatus._children",
        "CancelStatus._parent",
        "CancelStatus._scope",
        "CancelStatus._tasks",
        "CancelStatus.__attrs_post_init__",
        "Deadlines._active",
        "Deadlines._heap",
        "Deadlines.add",
        "Deadlines.next_deadline",
        "GLOBAL_RUN_CONTEXT.runner",
        "Runner.clock_autojump_threshold",
        "Runner.deadlines",
        "Runner.runq",
        "Task._cancel_status",
        "Task._counter",
        "heappush",
    ),
    "trio._threads": ("Run.queue", "RunSync.queue", "_send_message_to_trio", "start_thread_soon"),
    "trio.testing": ("MockClock._autojump",),
}
"""Every private name of trio that the harness uses, by module."""


def missing_names() -> list[str]:
    """The names of :data:`NAMES` that the installed trio lacks; empty while all is well."""
    return [f"{module}.{name}" for module, names in NAMES.items() for name in names if not _has(module, name)]


def check_trio() -> None:
    """Raise ``InternalError`` unless the installed trio has everything that the harness takes hold of."""
    missing = missing_names()
    if missing:
        raise moved(f"it has no {', '.join(missing)}")


def _has(module: str, name: str) -> bool:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        fields: Sequence[str] = [each.name for each in attrs.fields(found)] if attrs.has(found) else ()
        if part in fields:
            return True
        slots = getattr(found, "__annotations__", {})
        if not hasattr(found, part) and part not in slots:
            return False
        found = getattr(found, part, None)
    return True


def moved(what: str) -> InternalError:
    """The error for a trio that is none of those that the harness knows."""
    return InternalError(
        f"trio {trio.__version__} cannot be scheduled by the test harness: {what}.\n"
        "  Fix: install a trio that this release of understudy knows, or a release that knows this trio."
    )
