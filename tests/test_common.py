import pytest

from frontrun.common import Blocked, InterleavingResult, Schedule, Step


def test_step_and_schedule_compare_by_value():
    assert Schedule([Step("a", "read"), Step("b", "write")]).steps[1] == Step("b", "write")
    assert Schedule([Step(execution_name="a", marker_name="m")]) == Schedule(steps=[Step("a", "m")])


def test_positional_order_and_defaults_are_those_of_the_older_library():
    result = InterleavingResult(False, [0, 1], 7, 6, [(7, [0, 1])], "why", 10, 9)
    assert result.property_holds is False
    assert result.counterexample == [0, 1]
    assert (result.num_explored, result.unique_interleavings) == (7, 6)
    assert result.failures == [(7, [0, 1])]
    assert result.explanation == "why"
    assert (result.reproduction_attempts, result.reproduction_successes) == (10, 9)

    default = InterleavingResult(True)
    assert default.counterexample is default.explanation is None
    assert (default.num_explored, default.unique_interleavings, default.failures) == (0, 0, [])
    assert (default.reproduction_attempts, default.reproduction_successes) == (0, 0)
    assert (default.exhaustive, default.exception, default.deadlock) == (False, None, None)
    assert (default.races, default.seed, default.inconclusive_reason) == ([], None, None)
    assert default.failures is not InterleavingResult(True).failures


def test_our_additions_are_keyword_only():
    with pytest.raises(TypeError):
        InterleavingResult(False, None, 0, 0, [], None, 0, 0, ValueError())


def test_assert_holds_is_silent_when_it_does():
    InterleavingResult(True).assert_holds()


def test_assert_holds_gives_the_explanation_and_the_cause():
    error = KeyError("x")
    result = InterleavingResult(False, explanation="Race condition found.", exception=error)
    with pytest.raises(AssertionError) as caught:
        result.assert_holds("counter: ")
    assert str(caught.value) == "counter: Race condition found."
    assert caught.value.__cause__ is error


def test_assert_holds_without_explanation_names_the_schedule():
    with pytest.raises(AssertionError, match=r"under the schedule \[0, 1\]"):
        InterleavingResult(False, [0, 1]).assert_holds()


def test_an_inconclusive_result_does_not_hold_and_says_why():
    result = InterleavingResult(None, num_explored=3, inconclusive_reason="a run took over 5 s")
    with pytest.raises(AssertionError) as caught:
        result.assert_holds()
    assert str(caught.value) == (
        "inconclusive: a run took over 5 s. No violation was seen in 3 interleavings, "
        "but not all of them ran to their end."
    )
    with pytest.raises(AssertionError, match="cut off before its end"):
        InterleavingResult(None).assert_holds()


def test_repr_shows_what_there_is():
    assert repr(InterleavingResult(True, exhaustive=True, num_explored=4)) == (
        "InterleavingResult(property_holds=True, num_explored=4, exhaustive=True)"
    )
    assert "seed=0" in repr(InterleavingResult(True, seed=0))


def test_repr_stays_short():
    result = InterleavingResult(
        False,
        [0, 1] * 250,
        failures=[(n, [0] * 500) for n in range(100)],
        explanation="Deadlock found.\n\n" + "much more " * 100,
        deadlock=[Blocked(0, "lock #1", 1, "a.py", 1)],
        stats={"events": 1},
    )
    assert repr(result) == (
        "InterleavingResult(property_holds=False, counterexample=…(500 steps), "
        "failures=…(100), explanation='Deadlock found.', deadlock=…(1))"
    )


@pytest.mark.parametrize(("steps", "shown"), [(10, str([0] * 10)), (11, "…(11 steps)")])
def test_ten_steps_are_shown(steps, shown):
    assert f"counterexample={shown}" in repr(InterleavingResult(False, [0] * steps))


def test_no_truth_value_of_its_own():
    assert "__bool__" not in vars(InterleavingResult)
