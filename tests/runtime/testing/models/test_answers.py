from __future__ import annotations

import re

import attrs
import pytest

from actors.errors import DeclarationError
from actors.lm import Completion, Usage
from runtime.testing import Answer, field_answer, json_answer, tool_answer
from runtime.testing.models.answers import completion_of, prompt_text

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]


@attrs.frozen
class Bound:
    name: str
    least: int


def test_a_field_answer_is_what_dspys_chat_adapter_reads() -> None:
    answer = field_answer(reasoning="It says so.", filters=["ä", 2], bound=Bound("year", 2024))

    assert answer == (
        "[[ ## reasoning ## ]]\nIt says so.\n\n"
        '[[ ## filters ## ]]\n["ä", 2]\n\n'
        '[[ ## bound ## ]]\n{"name": "year", "least": 2024}\n\n'
        "[[ ## completed ## ]]"
    )


def test_a_field_that_is_none_is_left_out_of_a_field_answer() -> None:
    assert field_answer(query=None) == "[[ ## completed ## ]]"


def test_a_json_answer_is_one_object() -> None:
    assert json_answer(filters=["a"], query=None, tags={"y", "x"}) == '{"filters": ["a"], "query": null, "tags": ["x", "y"]}'


def test_a_value_without_a_json_form_is_refused() -> None:
    message = re.escape(
        "A scripted answer holds 1j, which has no JSON form.\n"
        "  Fix: use strings, numbers, booleans, None, lists, mappings or attrs instances."
    )

    with pytest.raises(DeclarationError, match=f"^{message}$"):
        field_answer(number=1j)


def test_a_text_becomes_a_completion_that_counts_words_as_tokens() -> None:
    completion = completion_of("I am one.", model="small", messages=ASKED)

    assert completion == Completion("I am one.", "small", usage=Usage(5, 3))


def test_a_mapping_of_fields_becomes_a_field_answer() -> None:
    completion = completion_of({"query": "trio"}, model="small", messages=ASKED)

    assert completion.text == field_answer(query="trio")


def test_a_message_with_tool_calls_becomes_a_completion_with_tool_calls() -> None:
    completion = completion_of(tool_answer("look", where="here"), model="small", messages=ASKED)

    function = {"name": "look", "arguments": '{"where": "here"}'}
    assert [call.as_openai() for call in completion.tool_calls] == [{"id": "call_1", "type": "function", "function": function}]
    assert (completion.text, completion.finish_reason) == ("", "tool_calls")


def test_an_answers_own_usage_and_finish_reason_come_first() -> None:
    answer = Answer("cut", usage=Usage(7, 8, 0.5), finish_reason="length")

    assert completion_of(answer, model="small", messages=ASKED) == Completion("cut", "small", "length", Usage(7, 8, 0.5))


def test_a_tool_call_without_a_name_is_refused() -> None:
    message = re.escape(
        "A scripted tool call has no name: {'arguments': {}}.\n"
        "  Fix: write tool_answer(name, **arguments), or a call in OpenAI's form."
    )

    with pytest.raises(DeclarationError, match=f"^{message}$"):
        completion_of({"tool_calls": [{"arguments": {}}]}, model="small", messages=ASKED)


def test_the_prompts_text_is_the_system_messages_and_the_last_user_message() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "image_url"}]}

    assert prompt_text([*ASKED, {"role": "assistant", "content": "no"}, parts]) == "Be brief.\nsecond"
