"""Words that this project doesn't use, and what it writes instead: ``python docs/vocabulary.py``, a part of `make check`.

Looked through are the pages, and of the two packages and the scripts of the documentation the docstrings, the comments and the
texts of errors. What stands in backquotes or in a block of code is a name, not a word. A rule is for words with a plain English
equivalent that every reader knows; where the word is right all the same, a line of ``ALLOWED`` gives the reason.
"""

from __future__ import annotations

import functools
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[1]


@attrs.frozen
class Rule:
    """One word or turn of phrase."""

    pattern: re.Pattern[str]
    instead: str


def rule(pattern: str, instead: str) -> Rule:
    """A rule for `pattern`, in small or capital letters."""
    return Rule(re.compile(pattern, re.IGNORECASE), instead)


RULES = (
    rule(r"\bmend(s|ed|ing)?\b", "fix"),
    rule(r"\bsays (what|which|when|why|where|how|whether)\b", "tells, shows, names"),
    rule(r"^says? (what|which|when|why|where|how|whether|that|on)\b", "tell, report"),
    rule(r"\b(?<!all )of (its|their|our|your|one's) own[,.;:)]", "its own …, or nothing"),
    rule(r"\bat once\b", "immediately, or concurrently"),
    rule(r"\brefus(e|es|ed|ing)\b", "reject, raise"),
    rule(r"\bso that\b", "so, or two sentences"),
    rule(r"\bnobody\b", "no one, or who it is that isn't there"),
    rule(r"\bnothing of (it|them)\b", "none of it, no task of the run"),
    rule(
        r"(?<!there )\b(is|are) no (function|class|message|graph|fork|list|text|number|JSON|answer|signal|sign)\b",
        "isn't a",
    ),
    rule(r"\b(whatever|whoever)\b", "any, the caller, no matter what"),
    rule(r"\bby itself\b", "on its own, directly"),
    Rule(re.compile(r"(?:^|\. )Of (a|an|the|several|two) [^,.:]{2,50}, "), "plain word order: In a …, the …"),
    rule(r"\bin hand\b", "current message"),
    rule(r"\bunder way\b", "in progress"),
    rule(r"\bfor good\b", "permanently"),
    rule(r"\banew\b", "again"),
    rule(r"\bin (its|their) stead\b", "instead"),
    rule(r"\bbut for\b", "except for"),
    rule(r"\bto the letter\b", "exactly"),
    rule(r"\bcom(e|es|ing) round\b", "loops back, begins again"),
    rule(r"\band (its|their) kin\b", "and similar"),
    rule(r"\b(make|makes|made) do\b", "manage without"),
    rule(r"\b(sit|sits|sat|sitting) out\b", "wait out"),
    rule(r"\bwork(s|ed|ing)? out\b", "compute, find out"),
    rule(r"\b(tell|tells|told|telling) (\w+ )?apart\b", "distinguish"),
    rule(
        r"\b(doom(ed)?|brood|undertaker|farewells?|roster|stations?)\b",
        "the word of OTP or trio: children, exit reason, restart",
    ),
    rule(r"\bkernel\b", "services"),
    rule(r"\bverdicts?\b", "decision, restart policy"),
    rule(r"\b(legs?|tracks?)\b", "branch"),
    rule(r"(?<!of )\bcourses?\b", "routing table"),
    rule(r"\blet(s|ting)? go\b", "release, forget, drop"),
)


# Files, the words there, and why a rule does not apply to them.
ALLOWED: tuple[tuple[str, str, str], ...] = (
    (r"CHANGELOG\.md", r"\*[^*]+\*", "the list of renamed words"),
    (r"CONTRIBUTING\.md", r"\bnot \"[^\"]+\"", "the same list, for contributors"),
    (
        r"docs/examples/.*|runtime/cli/demo_graph\.py",
        r"^Say (how|what|whether)",
        "prompts of examples",
    ),
    (r"runtime/(serve/gate|testing/network)\.py", r"[\w.]*\brefused?\b", "a key and a mode of TCP: identifiers"),
    (
        r".*",
        r"\bkernel('s)? (frees|reports|takes|has|own)|(by|for) the kernel\b",
        "that of the operating system or of Jupyter",
    ),
    (
        r"runtime/evaluate/.*|runtime/cli/graph_commands\.py|runtime/lm/predictors/files\.py|docs/examples/(django|flask)_service\.py|docs/how-to/compare-prompts\.md|CHANGELOG\.md",
        r"\b\.?verdicts?\b",
        "what a statistical comparison comes to",
    ),
    (r".*", r"[Rr]efusal", "what a model or a person answers"),
    (r"docs/vocabulary\.py", r".*", "the rules"),
)


@functools.cache
def prose(file: Path) -> tuple[tuple[int, str], ...]:
    """The lines of a file that are words, with their numbers."""
    return tuple(_prose(file))


def _prose(file: Path) -> Iterator[tuple[int, str]]:
    source = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        blank = re.sub(
            r"^( *)(`{3,}).*?^\1\2[ \t]*$", lambda block: "\n" * block[0].count("\n"), source, flags=re.MULTILINE | re.DOTALL
        )
        yield from enumerate(without_code(blank).split("\n"), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            text = re.sub(r"^[a-zA-Z]{0,2}(\"\"\"|'''|\"|')|^# ?", "", token.string)
            yield from enumerate(without_code(text).split("\n"), token.start[0])


def without_code(text: str) -> str:
    """The text with its names and its braces blanked out."""
    return re.sub(r"``[^`]*``|`[^`\n]*`|\{[^{}\n]*\}", "`…`", text)


def found(files: Iterable[Path]) -> Iterator[str]:
    """Every word that a rule names, as ``file:line: word: what to write``."""
    for file in files:
        name = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name
        allowed = [re.compile(words) for files_, words, _ in ALLOWED if re.fullmatch(files_, name)]
        for line, text in prose(file):
            rest = text.strip()
            for each in allowed:
                rest = each.sub("…", rest)
            for each in RULES:
                for match in each.pattern.finditer(rest):
                    yield f"{name}:{line}: {match[0].strip()!r}: write {each.instead}"


def pages() -> list[Path]:
    """What is looked through."""
    places = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
    places += [*(ROOT / ".github").rglob("*.md")]
    places += [file for file in (ROOT / "docs").rglob("*.md") if not {"_build", "_generated"}.intersection(file.parts)]
    for folder in ("actors", "runtime", "docs"):
        places += [file for file in (ROOT / folder).rglob("*.py") if "_build" not in file.parts]
    return sorted(places)


def main() -> int:
    """Print what is found; the exit code is 1 if anything is."""
    lines = list(found(pages()))
    print("\n".join(lines) or "every word is plain")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
