"""``understudy doctor``: what it reports, and what it never shows."""

from __future__ import annotations

from importlib import metadata

import pytest

from runtime.cli import doctor
from runtime.cli.main import main
from runtime.lm.providers.known import KEY_VARIABLES
from runtime.testing.models.process import loopback_process
from runtime.testing.models.provider_script import ModelScript

SECRET = "sk-canary-7f3a91"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]  # pytest calls it
    for names in KEY_VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)


def test_it_names_every_library_and_every_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0

    out = capsys.readouterr().out
    for library in doctor.libraries():
        assert (library.name if library.extra is None else library.extra) in out
    assert f"trio        {metadata.version('trio')}" in out
    assert "none is set" in out


def test_libraries_are_those_of_the_distribution() -> None:
    found = {library.name: library for library in doctor.libraries()}

    assert found["trio"].extra is None
    assert found["trio"].is_tried
    assert found["starlette"].extra == "serve"
    assert found["psycopg"].extra == "postgres"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (SECRET, "set"),
        ("", "empty"),
        (f"{SECRET}\n", "white space"),
        (f'"{SECRET}"', "quotation marks"),
        (f"{SECRET}\x00", "control"),
    ],
)
def test_a_key_is_reported_and_never_shown(
    value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": value})

    assert doctor.run(doctor.Options()) == 0

    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "OPENAI_API_KEY" in line)
    assert said in line
    assert SECRET not in out


def test_an_extra_that_is_missing_comes_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = doctor.Library("starlette", "<2,>=1.10", None, "serve")
    monkeypatch.setattr(doctor, "libraries", lambda: [gone])

    assert doctor.run(doctor.Options()) == 0

    assert "pip install 'understudy[serve]'" in capsys.readouterr().out


@pytest.mark.parametrize(("installed", "said"), [(None, "missing"), ("0.1", "0.1, but tried are")])
def test_a_library_that_is_missing_or_untried_is_exit_code_1(
    installed: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "libraries", lambda: [doctor.Library("trio", "<0.36,>=0.30", installed, None)])

    assert doctor.run(doctor.Options()) == 1

    out = capsys.readouterr().out
    assert said in out
    assert "Fix: pip install 'trio<0.36,>=0.30'" in out


@pytest.mark.slow
def test_a_provider_that_answers_is_exit_code_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with loopback_process({"tea": ModelScript(["yes"])}) as provider:
        assert doctor.run(doctor.Options("openai/tea", provider.api_base)) == 0

    out = capsys.readouterr().out
    assert "openai/tea answered in" in out
    assert "'yes'" in out
    assert SECRET not in out


@pytest.mark.slow
def test_a_provider_that_cannot_be_reached_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)

    assert doctor.run(doctor.Options("openai/tea", "http://127.0.0.1:9/v1")) == 1

    out = capsys.readouterr().out
    assert "127.0.0.1" in out
    assert SECRET not in out


def test_a_model_without_its_key_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", "openai/tea"]) == 2

    assert "OPENAI_API_KEY" in capsys.readouterr().err
