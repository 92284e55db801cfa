"""What a client is declared and called with, checked before anything is done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from actors.argument_checks import check_count, rejected
from actors.errors import DeclarationError, UsageError
from actors.words import repr_of, with_article
from runtime.lm.limits.retry import Retry
from runtime.lm.providers.known import EXAMPLES


def checked_messages(messages: object) -> list[dict[str, Any]]:
    """A copy of `messages`; UsageError when they are not messages in OpenAI's form."""
    fix = "\n  Fix: pass a list such as [{'role': 'user', 'content': 'Hello'}]."
    kind = type(messages)
    if not isinstance(messages, list | tuple) or not messages:
        given = f"an empty {kind.__name__}" if kind in {list, tuple} else f"a {kind.__name__}"
        raise UsageError(f"chat(): expected a list of messages, got {given}.{fix}")
    checked: list[dict[str, Any]] = []
    for index, message in enumerate(cast("Sequence[object]", messages)):
        if not isinstance(message, Mapping):
            raise UsageError(f"chat(): message {index} is a {type(message).__name__}, not a mapping.{fix}")
        fields = dict(cast("Mapping[str, Any]", message))
        if not isinstance(fields.get("role"), str) or not fields["role"]:
            raise UsageError(f"chat(): message {index} has no 'role'.{fix}")
        if "content" not in fields and not fields.get("tool_calls"):
            raise UsageError(f"chat(): message {index} has no 'content'.{fix}")
        checked.append(fields)
    return checked


def names_remote_media(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a message has parts that are not text."""
    parts = (part for message in messages if isinstance(message.get("content"), list) for part in message["content"])
    return any(isinstance(part, Mapping) and "text" not in cast("Mapping[str, Any]", part) for part in parts)


def check_arguments(owner: type, model: object, api_key: object, max_connections: object, retry: object) -> None:
    """DeclarationError when one of them is wrong."""
    if not isinstance(model, str) or not model.strip():
        raise DeclarationError(f"LMClient({repr_of(model)}): expected a model's name.\n  Fix: pass one such as {EXAMPLES}.")
    if api_key is not None and (not isinstance(api_key, str) or not api_key):
        raise DeclarationError("LMClient(api_key=…): expected a non-empty string or None.\n  Fix: pass the key, or leave it out.")
    check_count(owner, "max_connections", max_connections)
    if not isinstance(retry, Retry):
        raise rejected(owner, "retry", retry, "a Retry")


def check_seconds(owner: type, **waits: object) -> None:
    """DeclarationError unless all are numbers above 0."""
    for name, value in waits.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:  # a NaN is not above 0 either
            raise rejected(owner, name, value, "a number > 0")


def check_limits(owner: type, **limits: object) -> None:
    """DeclarationError unless all are whole numbers above 0 or None."""
    for name, value in limits.items():
        check_count(owner, name, value, optional=True)


def checked_texts(texts: object) -> list[str]:
    """A copy of `texts`; UsageError when they are not texts."""
    fix = "\n  Fix: pass a list such as ['Hello', 'Good day']."
    if not isinstance(texts, list | tuple):
        raise UsageError(f"embed(): expected a list of texts, got a {type(texts).__name__}.{fix}")
    checked: list[str] = []
    for index, text in enumerate(cast("Sequence[object]", texts)):
        if not isinstance(text, str) or not text:
            given = "empty" if text == "" else f"a {type(text).__name__}"
            raise UsageError(f"embed(): text {index} is {given}, and no model takes that.{fix}")
        checked.append(text)
    if not checked:
        raise UsageError(f"embed(): expected a list of texts, got an empty list.{fix}")
    return checked


def check_provider_options(owner: type, options: object) -> None:
    """DeclarationError unless `options` is None or a mapping from names."""
    if options is None:
        return
    fits = isinstance(options, Mapping) and all(isinstance(name, str) for name in cast("Mapping[object, object]", options))
    if not fits:
        kind = type(options).__name__  # pyright: ignore[reportUnknownArgumentType] - a mapping of anything
        raise DeclarationError(  # without its values: keys are among them
            f"{owner.__name__}(provider_options=…): expected a mapping from option names, got a {kind}.\n"
            "  Fix: pass one such as {'aws_region_name': 'eu-central-1'}."
        )


def check_instances(owner: type, **given: tuple[object, type]) -> None:
    """DeclarationError unless each value is None or an instance of its class."""
    for name, (value, kind) in given.items():
        if value is not None and (not isinstance(value, kind) or isinstance(value, type)):
            raise rejected(owner, name, value, f"{with_article(kind.__name__)} or None")
