"""Every construct that touches shared state is seen, and only what it touches."""

import pytest
from constructs import CONSTRUCTS


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=str)
def test_a_conflict_is_explored_both_ways(construct):
    assert construct.races()


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=str)
def test_what_does_not_conflict_is_explored_once(construct):
    assert construct.is_free()
