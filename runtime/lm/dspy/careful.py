"""Adapters of DSPy's that ask again for an answer that they cannot read."""

from __future__ import annotations

import copy
import functools
from typing import Any

from actors.lm import ChatMessage
from runtime.lm.dspy.library import library
from runtime.lm.dspy.prompts import remembering
from runtime.lm.dspy.reading import Care, Unfit, correcting, fitting, hint_for


def careful(adapter: Any, care: Care) -> Any:
    """A copy of `adapter` that asks again for an answer it cannot read, and shows the model what was wrong.

    DSPy's own second try, with a JSON prompt, is off: it would double the requests unseen. Asking again here, and not by running
    the module again, keeps what the module has done so far, such as the tools that an agent has called.
    """
    if not isinstance(adapter, library().Adapter):
        return adapter
    own = copy.copy(adapter)
    # A run inside a run finds the outer one's careful adapter: it replaces it, or the attempts of both would multiply.
    own.__class__ = _careful_class(getattr(adapter, "careful_base", adapter.__class__))
    own.care = care
    if hasattr(own, "use_json_adapter_fallback"):
        own.use_json_adapter_fallback = False
    return own


@functools.cache
def _careful_class(base: Any) -> Any:
    parse_error: Any = library().AdapterParseError
    parent: Any = remembering() if base is library().ChatAdapter else base

    class Careful(parent):  # type: ignore[misc]  # the base is known at run time only
        care: Care
        careful_base = base

        def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
            hint: tuple[ChatMessage, ...] = ()
            for _ in range(1, self.care.parse_attempts):
                try:
                    with correcting(hint):
                        return base.__call__(self, lm, dict(lm_kwargs), signature, demos, inputs)
                except parse_error as error:
                    hint = hint_for(error)
            with correcting(hint):
                return base.__call__(self, lm, dict(lm_kwargs), signature, demos, inputs)

        async def acall(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
            hint: tuple[ChatMessage, ...] = ()
            for _ in range(1, self.care.parse_attempts):
                try:
                    with correcting(hint):
                        return await base.acall(self, lm, dict(lm_kwargs), signature, demos, inputs)
                except parse_error as error:
                    hint = hint_for(error)
            with correcting(hint):
                return await base.acall(self, lm, dict(lm_kwargs), signature, demos, inputs)

        def parse(self, signature: Any, completion: str) -> Any:
            fields = base.parse(self, signature, completion)
            if self.care.plan is None:
                return fields
            try:
                return fitting(self.care.plan, signature, completion, fields)
            except Unfit as unfit:
                raise parse_error(base.__name__, signature, completion, message=str(unfit)) from unfit

    # DSPy wraps `format` and `parse` of every subclass in its callbacks, and the inherited ones are wrapped already.
    made: Any = Careful
    made.parse = made.parse.__wrapped__
    del made.format
    made.__name__ = made.__qualname__ = base.__name__
    return made
