"""Files of predictors: written whole, read back alike, and refused with words when they are anything else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import DeclarationError
from runtime.lm.dspy.trained import Trained, TrainedStep
from runtime.lm.predictors import files
from runtime.lm.predictors.files import Signature, StoredNode, StoredPredictor, UnreadableFile, read_folder, read_node, write_node

SIGNATURE = Signature("Predict", "Do.", {"q": "Q(text: str)"}, "A(text: str)", "sha256:0")
TRAINED = Trained({"self": TrainedStep("Do.", ({"text": "é\u2028", "more": [1, None, {"a": 0.5}]},))})
NODE = StoredNode("g", "pick", (StoredPredictor("A", SIGNATURE, TRAINED),))


def test_what_is_written_is_read(tmp_path: Path):
    path = write_node(tmp_path, NODE)

    nodes, strange = read_folder(tmp_path)

    assert path == tmp_path / "g" / "pick.json"
    assert (nodes, strange) == ([NODE], [])
    assert os.listdir(tmp_path / "g") == ["pick.json"]


@pytest.mark.parametrize("name", ["..", ".", "a b", "é", "100%", "a:b", "con?"])
def test_whatever_a_node_is_called_its_file_is_in_the_folder(name: str, tmp_path: Path):
    path = write_node(tmp_path, StoredNode(name, name, NODE.predictors))

    assert path.resolve().parent.parent == tmp_path.resolve()
    assert read_folder(tmp_path)[0][0].node == name


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path):
    path = write_node(tmp_path, NODE)
    before = path.read_bytes()
    endless = Trained({"self": TrainedStep("Do.", ({"text": float("nan")},))})

    with pytest.raises(ValueError, match="JSON compliant"):
        write_node(tmp_path, StoredNode("g", "pick", (StoredPredictor("A", SIGNATURE, endless),)))

    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["pick.json"]


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return edit


def step(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["predictors"][0]["steps"]["self"]
    return found


DEEP = "[" * 100 + "]" * 100
HOSTILE: dict[str, tuple[Callable[[str], str], str]] = {
    "no JSON": (lambda text: text[:-5], "it isn't JSON: "),
    "a bomb of brackets": (lambda text: "[" * 100_000, "it isn't JSON: "),
    "a list": (lambda text: "[]", "the file: expected an object, got list"),
    "another format": (changed(lambda content: content.update(format=2)), "format 2, expected 1"),
    "true for 1": (changed(lambda content: content.update(format=True)), "format True, expected 1"),
    "a field more": (
        changed(lambda content: content.update(code="import os")),
        "the file: expected exactly format, graph, node, predictors; 'code' is none",
    ),
    "a field less": (changed(lambda content: content.pop("graph")), "'graph' is missing"),
    "a field twice": (lambda text: text.replace('"format": 1', '"format": 1, "format": 1'), "an object has the same name twice"),
    "NaN": (lambda text: text.replace("0.5", "NaN"), "NaN isn't a JSON number"),
    "a number without end": (lambda text: text.replace("0.5", "1e999"), "demos[0]: nested deeper than 64, or a number"),
    "half a character": (lambda text: text.replace("0.5", '"\\ud800"'), "demos[0]: nested deeper than 64, or a number or a text"),
    "half a character in a name": (
        changed(lambda content: step(content).update(demos=[{"\ud800": 1}])),
        "demos[0]: nested deeper than 64, or a number or a text that JSON cannot carry",
    ),
    "half a character in the words": (
        changed(lambda content: step(content).update(instructions="\ud800")),
        "instructions: it has halves of characters, which no request can carry",
    ),
    "another node's": (changed(lambda content: content.update(node="other")), "it states node 'other' of graph 'g'"),
    "a path": (changed(lambda content: content.update(graph="../g")), "it states node 'pick' of graph '../g'"),
    "a name that is no text": (changed(lambda content: content.update(node=3)), "node: expected a text, got int"),
    "predictors by name": (changed(lambda content: content.update(predictors={})), "predictors: expected a list, got dict"),
    "state of DSPy's": (
        changed(lambda content: step(content).update(lm={"api_base": "http://evil"})),
        "predictors[0].steps['self']: expected exactly instructions, demos; 'lm' is none",
    ),
    "demos that are texts": (
        changed(lambda content: step(content).update(demos=["x"])),
        "predictors[0].steps['self'].demos[0]: expected an object, got str",
    ),
    "too many demos": (
        changed(lambda content: step(content).update(demos=[{}] * 257)),
        "predictors[0].steps['self'].demos: 257 demonstrations, at most 256",
    ),
    "a deep demo": (
        changed(lambda content: step(content).update(demos=[{"a": json.loads(DEEP)}])),
        "predictors[0].steps['self'].demos[0]: nested deeper than 64",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_anything_else_is_refused_and_says_why(name: str, tmp_path: Path):
    change, words = HOSTILE[name]
    path = write_node(tmp_path, NODE)
    path.write_text(change(path.read_text()))

    with pytest.raises(DeclarationError) as caught:
        read_folder(tmp_path)

    first, second, fix = str(caught.value).splitlines()
    assert first == f"predictors={str(tmp_path)!r}: 1 of the files cannot be used."
    assert second.startswith(f"  {path}: ")
    assert words in second
    assert fix == "  Fix: compile them again with `understudy compile`, or delete them."


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_node(tmp_path, NODE)
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 100)

    with pytest.raises(UnreadableFile, match=r"^it is larger than 100 bytes$"):
        read_node(path)


def test_a_text_that_is_no_utf_8_is_refused(tmp_path: Path):
    path = write_node(tmp_path, NODE)
    path.write_bytes(b'{"format": 1\xff')

    with pytest.raises(UnreadableFile, match=r"^it isn't JSON: 'utf-8' codec"):
        read_node(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_does_not_hold_the_start(tmp_path: Path):
    (tmp_path / "g").mkdir()
    os.mkfifo(tmp_path / "g" / "pick.json")

    with pytest.raises(DeclarationError, match="it isn't a regular file"):
        read_folder(tmp_path)


def test_a_folder_that_is_a_link_is_named_and_not_gone_into(tmp_path: Path):
    write_node(tmp_path / "elsewhere", NODE)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "g").symlink_to(tmp_path / "elsewhere" / "g")

    assert read_folder(tmp_path / "here") == ([], [tmp_path / "here" / "g"])


def test_all_files_that_cannot_be_used_are_named(tmp_path: Path):
    for name in ("one", "two"):
        write_node(tmp_path, StoredNode("g", name, NODE.predictors)).write_text("no")

    with pytest.raises(DeclarationError, match=r"2 of the files cannot be used\.\n  .*one\.json: .*\n  .*two\.json: "):
        read_folder(tmp_path)


def test_there_may_not_be_any_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_node(tmp_path, NODE)
    monkeypatch.setattr(files, "MAX_FILES", 0)

    with pytest.raises(DeclarationError, match="more than 0 files"):
        read_folder(tmp_path)


@pytest.mark.parametrize(("name", "words"), [("gone", "there is no such folder"), ("file", "it isn't a folder")])
def test_what_is_no_folder_is_refused(name: str, words: str, tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(DeclarationError) as caught:
        read_folder(tmp_path / name)

    assert str(caught.value) == (
        f"predictors={str(tmp_path / name)!r}: {words}.\n  Fix: pass the folder that `understudy compile -o` wrote."
    )


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 400))
def test_no_damage_to_a_file_raises_anything_else(junk: bytes, start: int, length: int):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write_node(Path(folder), NODE)
        content = path.read_bytes()
        path.write_bytes(content[:start] + junk + content[start + length :])

        try:
            read_node(path)
        except UnreadableFile as error:
            assert str(error)  # noqa: PT017 - a file that is still right is read
