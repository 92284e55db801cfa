"""No case may vanish in silence: each has a test that bears its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
FAMILIES = ("OTP", "EX", "TR", "PK")

CASES = """
OTP-001 OTP-002 OTP-003 OTP-004 OTP-005 OTP-006 OTP-007 OTP-008 OTP-009 OTP-010 OTP-011 OTP-012 OTP-013 OTP-014 OTP-015
OTP-016 OTP-017 OTP-018 OTP-019 OTP-020 OTP-022 OTP-023 OTP-024 OTP-025 OTP-026 OTP-027 OTP-028 OTP-029 OTP-030 OTP-031
OTP-032 OTP-033 OTP-035 OTP-036 OTP-038 OTP-039 OTP-040 OTP-041 OTP-042 OTP-043 OTP-044 OTP-045 OTP-046 OTP-047 OTP-048
OTP-049 OTP-050 OTP-052 OTP-053 OTP-055 OTP-056 OTP-057 OTP-058 OTP-059 OTP-060 OTP-062 OTP-063 OTP-066 OTP-067 OTP-068
OTP-069 OTP-070 OTP-072 OTP-073 OTP-075 OTP-076 OTP-077 OTP-079 OTP-080 OTP-081 OTP-082 OTP-083 OTP-084 OTP-085 OTP-086
OTP-088 OTP-089 OTP-090 OTP-091 OTP-092 OTP-093 OTP-094 OTP-095 OTP-096 OTP-097
EX-01 EX-02 EX-03 EX-04 EX-05 EX-06 EX-07 EX-08 EX-09 EX-10 EX-11 EX-12 EX-13
TR-01 TR-02 TR-03 TR-05 TR-06 TR-08 TR-09 TR-11 TR-12
PK-S01 PK-S02 PK-S03 PK-S04 PK-S05 PK-S06 PK-S07 PK-S08 PK-S09 PK-S10 PK-S11 PK-S13 PK-S14 PK-S15 PK-S16 PK-S17 PK-S18
PK-S19 PK-S21 PK-S22 PK-S23 PK-S24 PK-S25 PK-S26 PK-S27 PK-S28 PK-S29 PK-S30
PK-B01 PK-B02 PK-B03 PK-B04 PK-B05 PK-B06 PK-B07 PK-B08 PK-B10 PK-B11
PK-C01 PK-C02 PK-C03 PK-C04 PK-C05 PK-C06 PK-C07
PK-M01 PK-M03 PK-M04 PK-M05 PK-M06 PK-M07 PK-M08 PK-M09 PK-M10
PK-A01 PK-A02 PK-A04 PK-A05 PK-A06
PK-W01 PK-W03 PK-W04 PK-W05
PK-ST1 PK-ST2 PK-ST3
PK-T02 PK-T03
PK-R01 PK-R02 PK-R03
PK-D01
PK-X01
PK-K01
"""
"""Erlang/OTP's, Elixir's, trio's own and Pekko's cases, by the IDs that test names and their parameters bear."""


def cases_in(source: str) -> Iterator[str]:
    """The IDs that a test file bears: ``test_PK_S07_S08_…`` bears PK-S07 and PK-S08, ``id="OTP_044_…"`` bears OTP-044."""
    for words in re.findall(r"(?:def test|id=\")_?((?:[A-Z]+_)[A-Z]*\d+_\w+)", source):
        family = ""
        for word in words.split("_"):
            if word in FAMILIES:
                family = word
            elif family and re.fullmatch(r"\d{2,3}|[A-Z]{1,2}\d{1,2}", word):
                yield f"{family}-{word}"
            else:
                break


def test_every_case_has_a_test() -> None:
    borne = {case for file in TESTS.rglob("test_*.py") for case in cases_in(file.read_text(encoding="utf-8"))}

    assert [case for case in CASES.split() if case not in borne] == []


def test_a_name_bears_the_cases_it_begins_with() -> None:
    source = 'async def test_PK_R01_EX_10_equal_keys_of_4():\n    id="OTP_044_temporary"\ndef test_OTP_046_within_100_s(): ...'

    assert list(cases_in(source)) == ["PK-R01", "EX-10", "OTP-044", "OTP-046"]
