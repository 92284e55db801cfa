"""Why an answer ended, as each provider writes it, read from what it sent and not from what LiteLLM makes of it.

LiteLLM's parsers give some streams a reason that the provider has not sent yet, and take a reason that they do not know for
``"stop"``.
"""

from __future__ import annotations

from runtime.messages.shapes import as_object, first_of, text_in

_LENGTH = frozenset(
    {
        "context_length_exceeded",
        "error_limit",
        "incomplete",
        "length",
        "length_limit",
        "max_length",
        "max_output_tokens",
        "max_token",
        "max_tokens",
        "max_tokens_reached",
        "model_context_window_exceeded",
        "model_length",
        "token_limit",
        "token_limit_reached",
    }
)
_REFUSAL = frozenset({"content_filter", "content_filtered", "refusal"})
_FAILURE = frozenset({"error", "network_error"})
_ENDS = frozenset({"message_stop", "message-end"})
"""Kinds of event after which no more of the answer follows."""


def told_reason(fields: object) -> str | None:
    """The reason in a reply or an event, in the provider's own words; None when it gives none.

    Source: the API references of OpenAI (``finish_reason``; ``status`` of a response), Anthropic (``stop_reason``), Gemini
    (``finishReason``, ``blockReason``), Bedrock's Converse (``stopReason``), Cohere (``finish_reason``) and Ollama
    (``done_reason``).
    """
    reply = as_object(fields)
    places = (reply, as_object(reply.get("delta")), first_of(reply.get("choices")), first_of(reply.get("candidates")))
    for place in places:
        for name in ("finish_reason", "stop_reason", "finishReason", "stopReason", "done_reason"):
            reason = text_in(place, name)
            if reason is not None:
                return reason
    if reply.get("done") is True:
        return "stop"
    if reply.get("status") == "incomplete":
        return "incomplete"
    if text_in(reply.get("promptFeedback"), "blockReason"):
        return "content_filter"
    return "stop" if text_in(reply, "type") in _ENDS else None


def known_reason(told: str | None, read: str) -> str:
    """One of OpenAI's reasons: what the provider `told` where it says more than `read`, LiteLLM's reading of it.

    Raises:
        ValueError: the provider reports that it failed.
    """
    word = (told or "").lower()
    if word in _FAILURE:
        raise ValueError(f"the answer ended because of {told!r}")
    if word in _LENGTH:
        return "length"
    if word in _REFUSAL:
        return "content_filter"
    return "length" if read.lower() in _LENGTH else read
