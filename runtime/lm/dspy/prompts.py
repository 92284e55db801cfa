"""The prompts of DSPy's chat adapter, in which what stays the same from call to call is written once.

The adapter describes the fields, their types and the task again for every call, and makes a type adapter of pydantic's for every
value. :func:`remembering` gives a class of it that does neither and writes the same characters.
"""

from __future__ import annotations

import contextlib
import functools
import json
import types
from collections.abc import Mapping
from typing import Any, cast

from runtime.lm.dspy.import_dspy import library, part
from runtime.lm.dspy.plans import SignaturePrompt
from runtime.messages import schemas

_WRITTEN_AS_THEY_ARE = frozenset({bool, int, float, types.NoneType})


@functools.cache
def remembering() -> Any:
    """A ``dspy.ChatAdapter`` that keeps what it has written of the signature of its ``care.plan``.

    A signature from elsewhere, and one that a module has derived from the plan's, is described again for every call: it may
    have been changed in place since the last.
    """
    base: Any = library().ChatAdapter

    class Remembering(base):  # type: ignore[misc]  # the base is known at run time only
        def format_system_message(self, signature: Any) -> str:
            prompt = self._written(signature)
            return base.format_system_message(self, signature) if prompt is None else prompt.system

        def user_message_output_requirements(self, signature: Any) -> str:
            prompt = self._written(signature)
            return base.user_message_output_requirements(self, signature) if prompt is None else prompt.requirements

        def format_user_message_content(
            self, signature: Any, inputs: Mapping[str, Any], prefix: str = "", suffix: str = "", main_request: bool = False
        ) -> str:
            parts = [prefix]
            parts += [
                f"[[ ## {name} ## ]]\n{shown(info, inputs[name])}"
                for name, info in signature.input_fields.items()
                if name in inputs
            ]
            if main_request:
                parts.append(self.user_message_output_requirements(signature))
            return "\n\n".join([*parts, suffix]).strip()

        def format_field_with_value(self, fields_with_values: Mapping[Any, Any]) -> str:
            parts = [f"[[ ## {field.name} ## ]]\n{shown(field.info, value)}" for field, value in fields_with_values.items()]
            return "\n\n".join(parts).strip()

        def _written(self, signature: Any) -> SignaturePrompt | None:
            plan = self.care.plan
            if plan is None or plan.signature is not signature:
                return None
            prompt: SignaturePrompt = plan.prompt
            if prompt.instructions is None or prompt.instructions != signature.__doc__:
                prompt.system = base.format_system_message(self, signature)
                prompt.requirements = base.user_message_output_requirements(self, signature)
                prompt.instructions = signature.__doc__
            return prompt

    # DSPy wraps `format` and `parse` of every subclass in its callbacks, and the inherited ones are wrapped already.
    made: Any = Remembering
    del made.format, made.parse
    return made


def shown(info: Any, value: Any) -> str:
    """`value` of a field as DSPy's adapters write it, without a new type adapter for what JSON has."""
    kind = cast("type[object]", type(value))
    if kind is str:
        return cast("str", value)
    if kind in _WRITTEN_AS_THEY_ARE:
        return str(value)
    if kind is dict or (kind is list and info.annotation is not str):  # a list for a text is numbered
        with contextlib.suppress(Exception):  # what pydantic cannot dump is DSPy's to show
            return json.dumps(schemas.plain_adapter(kind).dump_python(value, mode="json", fallback=str), ensure_ascii=False)
    text: str = part("adapters.utils").format_field_value(field_info=info, value=value)
    return text
