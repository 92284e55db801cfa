"""The language models of one runtime: the default, the named ones, and the one transport that they share."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any, final

import attrs

from actors.actor import Actor
from actors.errors import DeclarationError, UsageError
from actors.lm import LM
from actors.words import repr_of
from runtime.lm.client import LMClient
from runtime.lm.http.tape import Tape
from runtime.lm.http.transport import HttpTransport, open_transport
from runtime.lm.limits.budget import Budget
from runtime.lm.limits.common_store import Common
from runtime.lm.statistics import ModelStatistics

DEFAULT_CONNECTIONS = 100


@final
class Models(Mapping[str, LM]):
    """The named models, as a mapping, and the default. A string stands for ``LMClient(string)``.

    All calls through clients that this opens are charged to `budget`, and pass `tape` where a client has none. `common` counts
    what several processes may use together.
    """

    def __init__(
        self,
        default: str | LM | None,
        named: Mapping[str, str | LM] | None,
        rng: random.Random,
        budget: Budget | None = None,
        tape: Tape | None = None,
        common: Common | None = None,
    ) -> None:
        self._tape = tape
        self._common = common
        self._rng = rng
        self.budget = budget
        self._clients: list[LMClient] = []
        self._bound: list[LMClient] = []
        self._transport: HttpTransport | None = None
        self.has_owner = False
        """Whether a :class:`Connections` has started for them."""
        self._default = self._model(default, "lm") if default is not None else None
        self._named = {name: self._model(lm, f"lms[{name!r}]") for name, lm in (named or {}).items()}

    def _model(self, given: object, option: str) -> LM:
        if isinstance(given, str):
            given = LMClient(given)
        if not isinstance(given, LM) or isinstance(given, type):
            raise DeclarationError(
                f"open_runtime({option}={repr_of(given)}): expected a model's name, an LMClient, "
                "or an object with the methods of LM.\n"
                '  Fix: lm="openai/gpt-4o-mini", for example.'
            )
        if isinstance(given, LMClient) and given not in self._clients:
            self._clients.append(given)
        return given

    @property
    def made(self) -> tuple[LM | None, dict[str, LM]]:
        """The default and the named ones, for another runtime that is to share them."""
        return self._default, dict(self._named)

    def __getitem__(self, name: str) -> LM:
        return self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    @property
    def default(self) -> LM:
        """The runtime's default model.

        Raises:
            UsageError: the runtime was opened without one.
        """
        if self._default is None:
            raise UsageError(
                'this runtime has no default language model.\n  Fix: open_runtime(lm="openai/gpt-4o-mini"), for example.'
            )
        return self._default

    def statistics(self) -> tuple[ModelStatistics, ...]:
        """One look at each: the default, the named ones in their order, then those that only nodes have."""
        named = [*([("default", self._default)] if self._default is not None else []), *self._named.items()]
        models = list({id(lm): lm for lm in [*(lm for _, lm in named), *self._clients]}.values())
        return tuple(
            attrs.evolve(
                lm.statistics() if isinstance(lm, LMClient) else ModelStatistics(type(lm).__name__, is_client=False),
                names=tuple(name for name, each in named if each is lm),
            )
            for lm in models
        )

    @property
    def needs_transport(self) -> bool:
        """Whether any of the models speaks HTTP and has no transport yet."""
        return any(not client.is_open for client in self._clients)

    def choose(self, choice: str | LM | None, who: str) -> LM:
        """The model for a node's ``lm`` option; `who` is named when there is none.

        A client that the node brings along is open once a transport is there: see :attr:`needs_transport`.

        Raises:
            DeclarationError: no model of that name, or no default.
        """
        if choice is None:
            if self._default is None:
                raise DeclarationError(
                    f"{who} wants a language model, but the runtime has no default one.\n"
                    '  Fix: open_runtime(lm="openai/gpt-4o-mini"), for example, or give the node its own lm.'
                )
            return self._default
        if isinstance(choice, str):
            if choice not in self._named:
                known = ", ".join(map(repr, self._named)) or "none"
                raise DeclarationError(
                    f"{who} wants the language model {choice!r}; the runtime has: {known}.\n"
                    f'  Fix: open_runtime(lms={{{choice!r}: "openai/gpt-4o-mini"}}), for example.'
                )
            return self._named[choice]
        lm = self._model(choice, "lm")
        if isinstance(lm, LMClient) and self._transport is not None:
            self._bind(lm, self._transport)
        return lm

    def bind(self, transport: HttpTransport) -> None:
        """Let every client use `transport`, except for those that their owner has opened."""
        self._transport = transport
        self.has_owner = True
        for client in self._clients:
            self._bind(client, transport)

    @property
    def max_connections(self) -> int:
        """Connections that let every client have its own share at the same time; never fewer than a client has by default."""
        return max(DEFAULT_CONNECTIONS, sum(client.max_connections for client in self._clients))

    def _bind(self, client: LMClient, transport: HttpTransport) -> None:
        if not client.is_open:
            client.bind(transport, self._rng, self.budget, self._tape, self._common)
            self._bound.append(client)

    def unbind(self) -> None:
        """The transport is closed."""
        self._transport = None
        for client in self._bound:
            client.unbind()
        self._bound.clear()


@final
class Connections(Actor):
    """Owns the runtime's one HTTP client; a restart of it gives every model a new one."""

    def __init__(self, models: Models) -> None:
        self._models = models

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Open the transport for one incarnation."""
        async with open_transport(max_connections=self._models.max_connections) as transport:
            self._models.bind(transport)
            try:
                yield
            finally:
                self._models.unbind()

    async def receive(self, message: Any) -> None:
        """It receives no messages."""
        raise UsageError(
            f"the owner of the connections takes no messages; got a {type(message).__name__}.\n"
            "  Fix: call a language model: await runtime.lm.chat(messages)."
        )
