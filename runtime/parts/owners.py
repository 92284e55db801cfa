"""What the owners of one store, each a runtime in its process, settle among them."""

from __future__ import annotations

import contextlib

from runtime.graphs.registered_names import RegisteredName
from runtime.parts.part import RuntimeParts


class RuntimeOwners(RuntimeParts):
    """Names that one of several runtimes has at a time."""

    def register(self, name: str) -> contextlib.AbstractAsyncContextManager[RegisteredName]:
        """Have `name` while the block lasts, as the only one of all runtimes that share the store; waits until it is free.

        ``async with runtime.register("index") as held:``, for work that one process is to do, as writing an index. It is held
        by the lease of this runtime's worker. When that ends, because the process died or was cut off, another gets the name
        after the lease and a third. The block is cancelled before that, and ``NameLost`` raised. ``held.fence`` grows with each
        holder: let writes outside carry it, since a process that was stopped for long may still be about to write.

        Without a store, or with one for a single process, the name is held within this runtime. The store keeps a row for each
        name that was ever registered, for its fence: don't make names of what there is ever more of.

        An error that the block raises passes; if the name was lost as well, it has a note that says so. Who waits inside of the
        block for an actor that registers the same name waits for ever.

        Raises:
            NameLost: another may have it. StoreError: the lease has ended.
            UsageError: `name` isn't a text of 1 to 200 characters; or this task has it already, or was started in the block of
                one that has, and would wait for ever.
        """
        return self._engine.names.register(name)

    async def registered(self, name: str) -> str | None:
        """Which worker has `name` now; None: no one.

        Raises:
            StoreError: the store cannot be asked.
        """
        return await self._engine.names.holder(name)
