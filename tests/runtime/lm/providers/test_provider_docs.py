"""The page for users says how every provider is served, and says it as the code does it."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from runtime.lm.providers import embeddings, known, model_routes
from runtime.lm.providers.import_litellm import load

PAGE = Path(__file__).resolve().parents[4] / "docs/how-to/run-on-a-provider.md"


def names_in(row: str) -> list[str]:
    """The providers in the row of the page's table that begins so."""
    (line,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {row}")]
    return re.findall(r"`([^`]+)`", line)


def test_the_page_lists_the_providers_that_the_client_speaks_to():
    pins = (PAGE.parents[2] / "requirements/run.txt").read_text(encoding="utf-8")
    if f"litellm=={importlib.metadata.version('litellm')} " not in pins:
        pytest.skip("the page lists the providers of the pinned release")
    litellm = load()
    all_names = sorted({str(getattr(provider, "value", provider)) for provider in litellm.provider_list})

    assert names_in("Chat by the client") == [provider for provider in all_names if model_routes.speaks(litellm, provider)]


def test_the_page_lists_those_whose_embeddings_the_client_asks_for():
    assert names_in("Embeddings by the client") == sorted(embeddings.NATIVE)


def test_the_page_lists_those_that_are_not_served():
    assert names_in("Not at all") == sorted(known.UNSERVED_PROVIDERS)


def test_every_provider_with_a_protocol_of_its_own_has_a_row_about_key_and_address():
    page = PAGE.read_text(encoding="utf-8")

    assert [name for name in sorted(known.OWN_PROTOCOL_PROVIDERS - {"cohere"}) if f"`{name}/" not in page] == []
