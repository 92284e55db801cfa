from __future__ import annotations

import math
from typing import Any, cast

import pytest

from actors import DeclarationError, MailboxSpec, Overflow


def test_a_mailbox_is_bounded_and_blocks_unless_its_author_says_otherwise():
    assert (MailboxSpec().capacity, MailboxSpec().overflow) == (64, Overflow.BLOCK)
    assert MailboxSpec(capacity=math.inf).capacity == math.inf


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, None, "64"])
def test_a_capacity_is_a_whole_number_or_infinity(capacity):
    with pytest.raises(DeclarationError) as caught:
        MailboxSpec(capacity=capacity)

    assert str(caught.value) == (
        f"MailboxSpec(capacity={capacity!r}): expected a whole number >= 1 or math.inf.\n"
        "  Fix: pass a whole number >= 1 or math.inf as 'capacity'."
    )


def test_an_overflow_is_one_of_the_four_policies():
    with pytest.raises(DeclarationError, match=r"^MailboxSpec\(overflow='block'\): expected an Overflow\."):
        MailboxSpec(overflow=cast("Any", "block"))
