"""Whether a handler waits for the code that runs here: an ask from it, or the end of it, could then be one that never comes."""

from __future__ import annotations

import contextvars

import trio

from runtime.core.cell import Cell, current_cell, off_duty

in_thread: contextvars.ContextVar[Cell | None] = contextvars.ContextVar("in_thread", default=None)
"""The cell whose handler waits for the worker thread in which this code was called."""


def on_duty() -> Cell | None:
    """The cell whose handler cannot go on before this code does; None outside of handlers, and in tasks that run beside one."""
    cell = current_cell.get()
    if cell is None or off_duty.get():
        return None
    if in_thread.get() is cell:
        return cell
    task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while task is not None and task is not cell.task:  # a task that the handler has started elsewhere outlives it
        task = task.parent_nursery.parent_task if task.parent_nursery is not None else None
    return cell if task is not None else None
