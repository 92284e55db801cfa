"""The project's words: a rule that is broken is found with its line. `make check` looks for them in all pages and sources."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHECK = runpy.run_path(str(ROOT / "docs/vocabulary.py"))

WRONG = [
    "Mend: write it so.",
    "The table says which it is.",
    "Say what happened.",
    "It has a clock of its own.",
    "Three nodes receive it at once.",
    "The call is refused.",
    "It is kept, so that it lasts.",
    "Nobody is there.",
    "Nothing of it is left.",
    "This is no function.",
    "Whatever comes, it stays.",
    "It ends by itself.",
    "Of a run that failed, the trace is kept.",
    "The message in hand is settled.",
    "Two runs are under way.",
    "It stops for good.",
    "It begins anew.",
    "Another goes in its stead.",
    "Nothing but for this one.",
    "It is kept to the letter.",
    "The loop comes round.",
    "Lists and their kin.",
    "It makes do with less.",
    "It sits out the pause.",
    "It is worked out later.",
    "They are told apart.",
    "The brood is doomed.",
    "The kernel of the runtime starts it.",
    "The verdict about a child.",
    "The last leg of its way.",
    "The course of a message.",
    "It lets go of the lock.",
]


@pytest.mark.parametrize("sentence", WRONG)
def test_a_word_that_a_rule_names_is_found(sentence: str, tmp_path: Path) -> None:
    """In a page, a docstring, a comment and the text of an error, with its line; in code it is a name."""
    page, module = tmp_path / "page.md", tmp_path / "module.py"
    page.write_text(f"# A page\n\n```text\n{sentence}\n```\n\n`{sentence}` {sentence}\n", encoding="utf-8")
    module.write_text(f'"""{sentence}"""\n\n# {sentence}\nraise ValueError("{sentence}")\n', encoding="utf-8")

    found = list(CHECK["found"]([page, module]))

    places = {line.partition(": ")[0] for line in found}
    assert places - {"page.md:7"} == {"module.py:1", "module.py:3", "module.py:4"}
    assert places >= {"page.md:7"} or sentence.startswith(("Say", "Of"))  # which are looked for where a sentence begins a line


def test_every_rule_has_a_sentence_that_breaks_it() -> None:
    idle = [rule.pattern.pattern for rule in CHECK["RULES"] if not any(rule.pattern.search(each) for each in WRONG)]

    assert idle == []


@pytest.mark.chaos
def test_every_exception_is_needed_and_gives_its_reason() -> None:
    lines = [(page.relative_to(ROOT).as_posix(), text.strip()) for page in CHECK["pages"]() for _, text in CHECK["prose"](page)]
    needed = [(files, words) for files, words, _ in CHECK["ALLOWED"] if any(fits(files, words, *line) for line in lines)]

    assert [(files, words) for files, words, reason in CHECK["ALLOWED"] if reason] == needed


def fits(files: str, words: str, name: str, text: str) -> bool:
    return re.search(words, text) is not None and re.fullmatch(files, name) is not None
