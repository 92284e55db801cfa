"""Every problem document tells its reader what to do, and nothing of the inside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtime.serve import Service
from runtime.serve.faces.following import words_of
from runtime.serve.problem_documents import KINDS, HttpProblem
from tests.runtime.serve.cast import Keys, answers, serving

ROOT = Path(__file__).resolve().parents[3]
ROUTE = re.compile(r"\b(?:GET|POST|DELETE) (/[\w/{}.]*[\w}])")


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_tells_what_can_be_done(kind: str) -> None:
    document = HttpProblem(kind).document()

    assert re.fullmatch(r"[a-z][^\n]{15,}\.", document["fix"])
    assert words_of(HttpProblem(kind)).endswith(f" Fix: {document['fix']}")


def test_the_usual_fix_makes_room_for_a_better_one() -> None:
    assert HttpProblem("forbidden", fix="ask from here.").document()["fix"] == "ask from here."


async def test_who_has_no_key_or_a_wrong_one_is_told_the_same_and_how_to_send_one() -> None:
    """A difference would tell a stranger which keys there are."""
    async with serving(auth=Keys().auth) as client:
        without, wrong = await client.get("/v1/runs"), await client.of("usk_none").get("/v1/runs")

    assert without.status == wrong.status == 401
    assert without.json() == wrong.json()
    assert without.json()["fix"] == "send the header 'Authorization: Bearer KEY', once, with a valid key."


def test_every_route_that_a_fix_or_a_page_names_is_there() -> None:
    fixes = [fix for _, _, fix in KINDS.values()]
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md")]
    named = {path for text in (*fixes, *pages) for path in ROUTE.findall(text)}

    described = set(Service([answers()]).openapi()["paths"])
    assert named - described == {"/openapi.json"}  # which does not describe itself
    assert {"/v1/graphs", "/v1/runs", "/v1/runs/{run}/questions"} <= named
