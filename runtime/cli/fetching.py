"""Asks a service for the events of a run, for a command line."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

import httpx

from actors.errors import UsageError
from actors.words import cut

KEY_VARIABLE: Final = "UNDERSTUDY_KEY"
WAIT_S: Final = 30.0
"""How long a service may take to begin its answer."""


def fetch_events(url: str, run: str, key: str | None) -> str:
    """The events of `run` that a service has kept, as JSON Lines.

    Args:
        url: where the service is mounted: ``http://127.0.0.1:8321``.
        run: the run's id.
        key: of a caller who may see it; None for a service without keys.

    Raises:
        UsageError: the service cannot be reached, or says no.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(f"--url {url}: it is no address of a service.\n  Fix: --url http://127.0.0.1:8321, for example.")
    headers = {"Accept": "application/jsonl", **({} if key is None else {"Authorization": f"Bearer {key}"})}
    address = f"{url.rstrip('/')}/v1/runs/{quote(run, safe='')}/events"
    try:
        with httpx.Client(timeout=WAIT_S, follow_redirects=False) as client:
            answer = client.get(address, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise UsageError(
            f"{url} cannot be reached: {str(error) or type(error).__name__}\n"
            "  Fix: start the service (`understudy serve`), or correct --url."
        ) from error
    if answer.status_code == HTTPStatus.OK and answer.headers.get("content-type", "").startswith("application/jsonl"):
        return answer.text
    raise UsageError(_rejected(url, run, answer))


def _rejected(url: str, run: str, answer: httpx.Response) -> str:
    fix = {
        401: f"give the key of a caller with --key or in {KEY_VARIABLE}; `understudy serve` prints one where it has none.",
        403: "give the key of a caller with the scope 'run' or 'inspect'.",
        404: "correct the run's id, or give a key with the scope 'inspect' for a run of another caller.",
        410: "record it while it goes on: only so many runs are kept (see Recording).",
    }.get(answer.status_code, "give the address of an understudy service with --url, its mount path included.")
    return f"{url} does not give the events of run {run!r}: {_told(answer)}\n  Fix: {fix}"


def _told(answer: httpx.Response) -> str:
    try:
        problem: Any = json.loads(answer.text)
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        told = cast("dict[str, Any]", problem)
        return f"{answer.status_code} {cut(str(told.get('title') or told.get('detail') or told), 200)}"
    return f"{answer.status_code} {answer.reason_phrase}, {answer.headers.get('content-type', 'without a type')}"
