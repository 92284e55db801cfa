"""What is allowed to be installed works: the seams of LiteLLM are called as the installed release wants them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from actors.errors import UsageError
from runtime.lm.providers import import_litellm
from runtime.lm.providers.translation import Translator

ROOT = Path(__file__).resolve().parents[2]
MESSAGES: list[dict[str, Any]] = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def newer(config: Any, seen: dict[str, Any]) -> Any:
    """The configuration as litellm 1.110 has it."""
    older = config.translate_developer_role_to_system_role.__func__

    def translate(
        self: Any, messages: Any, *, model: str, custom_llm_provider: str | None, api_base: str | None, model_info: object
    ) -> Any:
        seen.update(model=model, provider=custom_llm_provider, api_base=api_base)
        try:
            return tuple(older(self, messages))
        except TypeError:  # the installed one is as new
            return tuple(older(self, messages, model=model, custom_llm_provider=None, api_base=None, model_info=None))

    return translate


@pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5", "groq/llama3", "mistral/m"])
def test_h1_a_seam_that_takes_more_arguments_gets_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator(name, api_key="k" * 12)
    before = translator.request(MESSAGES, {}).data
    config, seen = translator.route().config, dict[str, Any]()
    monkeypatch.setattr(type(config), "translate_developer_role_to_system_role", newer(config, seen))

    after = translator.request(MESSAGES, {}).data

    assert after == before
    assert seen["model"] == name.partition("/")[2]
    assert seen["provider"] == name.partition("/")[0]


def test_h1_a_seam_that_needs_what_is_not_known_blames_the_release_and_not_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator("openai/gpt-4o-mini", api_key="k" * 12)

    def of_tomorrow(self: Any, messages: Any, *, weather: str) -> Any:
        raise AssertionError(f"called with {weather}")

    monkeypatch.setattr(type(translator.route().config), "translate_developer_role_to_system_role", of_tomorrow)

    with pytest.raises(
        UsageError, match=r"^litellm \S+ is not a release that understudy works with .*needs weather\.\n  Fix: pip"
    ):
        translator.request(MESSAGES, {})


def test_h1_a_seam_that_is_gone_blames_the_release_and_not_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    translator = Translator("openai/gpt-4o-mini", api_key="k" * 12)
    translator.route()
    monkeypatch.delattr(import_litellm.load().utils, "validate_and_fix_openai_messages")

    with pytest.raises(UsageError, match=r"^litellm \S+ is not a release that understudy works with .*validate_and_fix"):
        translator.request(MESSAGES, {})


def test_h1_the_ceiling_of_litellm_is_the_newest_series_that_was_tried() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [bounds] = [need for need in project["dependencies"] if need.startswith("litellm")]
    minor = int(import_litellm.TRIED[-1].partition(".")[2])

    assert bounds == f"litellm>={import_litellm.TRIED[0]},<1.{minor + 1}"


def test_h1_every_dependency_has_a_floor_and_a_ceiling() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [*project["dependencies"], *(need for extra in project["optional-dependencies"].values() for need in extra)]

    assert [need for need in needs if ">=" not in need or ",<" not in need] == []


def test_h1_the_libraries_at_both_ends_are_tried_before_a_change_lands() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")

    assert "end: [newest, oldest]" in workflow
    assert "quick-${{ matrix.end }}" in workflow
