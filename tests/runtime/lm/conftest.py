"""What the tests of the language-model layer share: a clock that waits for sockets, and litellm imported beforehand."""

import os

# Before litellm is imported: for some models it would look for a tokenizer on the internet, and wait for it.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import trio.testing

from runtime.lm.providers import import_litellm


@pytest.fixture(scope="session", autouse=True)
def _litellm_is_loaded() -> None:
    """The import takes seconds in a thread, and a virtual clock does not wait for threads."""
    import_litellm.load()


@pytest.fixture
def patient_clock(virtual_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    return virtual_clock


@pytest.fixture(autouse=True)
def _no_addresses_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests name the server they talk to."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
