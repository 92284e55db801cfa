"""What pages, comments and errors point at is there: links, places on pages, paths, and the files that a question leads to."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from actors import errors, message_errors, placement_errors, store_errors
from actors.errors import NodeFailed, Problem

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
WIRED = re.compile(r"^:link: (?P<target>\S+)$", re.MULTILINE)
HEADING = re.compile(r"^#{1,3} (.+)$", re.MULTILINE)
PATH = re.compile(r"(?<![\w/.-])(?:docs|tests|actors|runtime|requirements)/[\w./-]*\w(?:\.(?:py|md|txt|in|toml|svg))(?![\w/])")
QUESTION = re.compile(r"^\| (?P<report>[^|]+) \| (?P<look>[^|]+) \| `(?P<file>[\w/.]+)`: `(?P<name>\w+)`[^|]* \|$", re.MULTILINE)
# No test has a network: a link to another host is added here by one who has opened it.
HOSTS = {
    "docs.ag-ui.com",
    "keepachangelog.com",
    "docs.ray.io",
    "langfuse.com",
    "logfire.pydantic.dev",
    "mlflow.org",
    "modelcontextprotocol.io",
    "pytest-trio.readthedocs.io",
    "semver.org",
    "trio.readthedocs.io",
}
# These name files that they, or those whom they tell to, would make.
MADE_UP = (
    "runtime/cli/new.py",
    "tests/regressions/test_g_harness.py",
    "tests/runtime/cli/test_new.py",
    "tests/test_layers.py",
    "tests/test_pages.py",
    "tests/test_reference.py",
)


def tracked(*suffixes: str) -> list[Path]:
    """The files of the project; without git, of a tree that was unpacked."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    files = [ROOT / name for name in listed.split("\0") if name] or [
        file for top in (".github", "actors", "docs", "runtime", "tests") for file in (ROOT / top).rglob("*")
    ]
    built = {ROOT / "docs/_build", ROOT / "docs/_generated"}
    return sorted(file for file in files if file.suffix in suffixes and file.is_file() and not built.intersection(file.parents))


PAGES = tracked(".md")


def text_of(page: Path) -> str:
    """The page without its blocks of code, in which a bracket is no link."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def places(page: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub and the built pages make them."""
    slugs: Counter[str] = Counter()
    found: set[str] = set()
    for heading in HEADING.findall(text_of(page)):
        slug = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        found.add(f"{slug}-{slugs[slug]}" if slugs[slug] else slug)
        slugs[slug] += 1
    return found


def dead_links(page: Path) -> Iterator[str]:
    """What a page links to inside the project, and what isn't there."""
    text = text_of(page)
    targets = [match["target"] for match in LINK.finditer(re.sub(r"`[^`\n]*`", "", text))]
    targets += [f"{match['target']}.md" for match in WIRED.finditer(page.read_text(encoding="utf-8"))]
    for target in targets:
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, place = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.is_file():
            yield f"{target}: there is no such file"
        elif place and place not in places(file):
            yield f"{target}: no heading of {file.name} is so called"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_of_a_page_is_dead(page: Path) -> None:
    assert list(dead_links(page)) == []


def test_a_dead_link_and_a_missing_heading_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Some words: `code`, and more\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("[a](no.md) [b](other.md#no) [c](other.md#some-words-code-and-more) `[d](x.md)` [e](#f)\n", encoding="utf-8")

    assert list(dead_links(page)) == [
        "no.md: there is no such file",
        "other.md#no: no heading of other.md is so called",
        "#f: no heading of page.md is so called",
    ]


def abroad(page: Path) -> list[str]:
    """Where a page links to on the network."""
    return [match["target"] for match in LINK.finditer(text_of(page)) if ":" in match["target"].partition("/")[0]]


def doubtful(target: str) -> bool:
    """Whether a link isn't encrypted, has a strange form, or leads to a host that is not in the list."""
    link = urlsplit(target)
    return link.scheme != "https" or link.netloc not in HOSTS or not re.fullmatch(r"[\w./-]*", link.path) or bool(link.query)


def test_links_that_leave_the_project_are_encrypted_and_lead_to_hosts_that_somebody_has_looked_at() -> None:
    linked = {target: page for page in PAGES for target in abroad(page)}

    assert {target: page.name for target, page in linked.items() if doubtful(target)} == {}
    assert {urlsplit(target).netloc for target in linked} == HOSTS, "one of the hosts is linked to no more"


@pytest.mark.parametrize(
    "target", ["http://semver.org", "https://semver.org.evil.example", "mailto:me@semver.org", "https://semver.org/ä?b"]
)
def test_a_doubtful_link_is_found(target: str) -> None:
    assert doubtful(target)


def test_every_file_that_is_named_in_a_page_a_comment_or_a_text_is_there() -> None:
    """Errors included: what they name must be found by the one who reads them."""
    missing = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in tracked(".md", ".py", ".toml", ".yml")
        if file.relative_to(ROOT).as_posix() not in MADE_UP
        for name in PATH.findall(file.read_text(encoding="utf-8"))
        if not (ROOT / name).is_file() and not (file.parent / name).is_file()
    ]

    assert missing == []


def test_each_question_of_a_newcomer_leads_to_a_file_that_has_the_name() -> None:
    page = (ROOT / "docs/design/layers.md").read_text(encoding="utf-8")
    table = page[page.index("| the report |") : page.index("If you can't find something this way")].strip().splitlines()[2:]

    questions = list(QUESTION.finditer(page))
    assert [question[0] for question in questions] == table
    assert len(questions) > 12
    gone = [question[0] for question in questions if question["name"] not in names_in(ROOT / question["file"])]
    assert gone == []


def names_in(file: Path) -> set[str]:
    """What a file defines, and the classes that it makes an object of."""
    if not file.is_file():
        return set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    return defined | {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


def test_the_page_that_an_error_names_has_a_place_for_it() -> None:
    lists = runpy.run_path(str(ROOT / "docs/troubleshooting.py"))
    written = "\n".join(
        entry for module in (errors, message_errors, placement_errors, store_errors) for entry in lists["error_entries"](module)
    )
    written += "\n".join(lists["problem_entries"]())
    marked = set(re.findall(r"^`[\w-]+`\{#([\w-]+)\}$", written, re.MULTILINE))

    classes = [each for module in (errors, message_errors, placement_errors, store_errors) for each in lists["classes"](module)]
    named: set[str] = {each(*(["", [ValueError()]] if issubclass(each, ExceptionGroup) else [""])).page for each in classes}
    named |= {Problem(code, None, "", "").page for code in lists["problems"]()}
    assert {place.partition("#")[2] for place in named} == marked
    assert {place.partition("#")[0] for place in named} == {"how-to/troubleshooting.html"}
    assert (ROOT / "docs/how-to/troubleshooting.md").is_file()


def test_an_error_of_an_author_has_the_page_of_the_class_that_it_derives_from() -> None:
    class Mine(NodeFailed):
        pass

    assert Mine("x").page == "how-to/troubleshooting.html#nodefailed"
