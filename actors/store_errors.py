"""Errors of stores, and of runs that are kept in one.

::

    UnderstudyError
    ├── StoreError                  the store could not do what it was asked
    │   ├── StoreUnavailable        it does not answer, or cannot write: try again
    │   ├── StoreInUse              another process owns it
    │   ├── StoreTooNew             a later release has written it
    │   ├── StoreDamaged            what it holds is not what was written
    │   ├── NotStorable             a value has no JSON that gives it back
    │   └── RecordTooLarge          a value, or a run, is larger than a record or a run may be
    ├── NameLost                    this process no longer has a name that it had registered
    ├── RunError
    │   ├── RunLost                 this process no longer owns the run
    │   └── RunParked               the run waits for a decision of a person
    │       ├── StepUncertain       a step, or a tool's call, that may run once only was cut short
    │       ├── RunChanged          what is recorded does not fit the graph as it is now
    │       ├── RunCrashes          its process has died again and again, and nothing new was recorded
    │       └── RunUndecodable      a recorded value cannot be read as its type any more
    └── UsageError
        ├── RunExists               the id belongs to a run of another graph or with another input
        ├── AlreadyAnswered         the question has its answer
        └── UnknownRun              no such run is stored
"""

from __future__ import annotations

from actors.errors import RunError, UnderstudyError, UsageError


class StoreError(UnderstudyError):
    """A store could not do what it was asked; what was acknowledged before is kept. Base of the errors of stores."""


class StoreUnavailable(StoreError):
    """The store does not answer, or cannot write now: the disk is full, the server is away. The same call may succeed later."""

    retryable: bool | None = True


class StoreInUse(StoreError):
    """Another process owns the store; a SQLite file has one owner at a time."""

    retryable: bool | None = True


class StoreTooNew(StoreError):
    """A later release of understudy has written the store, in a form that this one does not know."""

    retryable: bool | None = False


class StoreDamaged(StoreError):
    """What the store holds is not what was written: a checksum is wrong, or a record is missing between others."""

    retryable: bool | None = False

    def __init__(self, message: str, *, run_id: str | None = None, seq: int | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.seq = seq


class NotStorable(StoreError):
    """A value has no JSON from which an equal one could be made. ``type`` names what it is, ``field`` the place in it."""

    retryable: bool | None = False

    def __init__(self, message: str, *, type: str = "", field: str | None = None) -> None:  # noqa: A002 - the word of the design
        super().__init__(message)
        self.type = type
        self.field = field


class RecordTooLarge(StoreError):
    """A value is larger than one record may be (``size`` and ``limit`` in bytes), or a run has more than it may keep."""

    retryable: bool | None = False

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class RunLost(RunError):
    """This process no longer owns the run: its lease ended, and another worker may have taken the run over."""

    retryable: bool | None = False


class NameLost(UnderstudyError):
    """This process no longer has a name: its lease ended, and another owner of the store may have taken it. ``name`` is which."""

    retryable: bool | None = True

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class RunParked(RunError):
    """The run waits for a decision of a person, and goes on once it is resumed. ``reason`` tells why in a few words."""

    retryable: bool | None = False

    def __init__(self, message: str, *, run_id: str | None = None, reason: str = "") -> None:
        super().__init__(message, run_id=run_id)
        self.reason = reason


class StepUncertain(RunParked):
    """A step, or a tool's call, that may run once only had begun when its process ended: it may have taken effect or not.

    ``path`` is that of the step or the call, as in ``handle.trace``.
    """

    def __init__(self, message: str, *, run_id: str | None = None, reason: str = "", path: str = "") -> None:
        super().__init__(message, run_id=run_id, reason=reason)
        self.path = path


class RunChanged(RunParked):
    """What is recorded does not fit the graph as it is now; the message lists what would be kept, run again and dropped."""


class RunCrashes(RunParked):
    """The process has died several times in a row while the run was at work, and nothing new was recorded in between."""


class RunUndecodable(RunParked):
    """A recorded value cannot be read as its type any more: a field was removed, or its type changed."""


class RunExists(UsageError):
    """The id belongs to a stored run of another graph, or of this graph with another input."""

    def __init__(self, message: str, *, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class AlreadyAnswered(UsageError):
    """The question has its answer; the first one counts."""


class UnknownRun(UsageError):
    """No such run, or no such question, is stored."""
