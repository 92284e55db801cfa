from __future__ import annotations

import pytest

from actors.words import counted, listed, type_names, with_article


@pytest.mark.parametrize(("noun", "shown"), [("Reply", "a Reply"), ("Intent", "an Intent"), ("int", "an int"), ("", "a ")])
def test_a_noun_gets_the_article_of_its_first_letter(noun, shown):
    assert with_article(noun) == shown


@pytest.mark.parametrize(
    ("names", "shown"),
    [([], "nothing"), (["a"], "'a'"), (["a", "b"], "'a' and 'b'"), (["a", "b", "c"], "'a', 'b' and 'c'")],
)
def test_names_are_listed_as_in_a_sentence(names, shown):
    assert listed(iter(names)) == shown


def test_the_last_of_a_list_may_be_an_alternative():
    assert listed(["a", "b"], last="or") == "'a' or 'b'"


def test_types_are_joined_like_a_union():
    assert type_names([int, str]) == "int | str"
    assert type_names([int, str], joint=" + ") == "int + str"


def test_one_is_counted_without_a_plural():
    assert (counted(1, "node"), counted(2, "node"), counted(0, "node")) == ("1 node", "2 nodes", "0 nodes")
