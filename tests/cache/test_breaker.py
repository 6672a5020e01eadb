"""When calls are held back, and when one is sent ahead."""

from steelyard.cache.breaker import Breaker


class Watch:
    """A stopwatch that the test turns."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def opened(watch: Watch) -> Breaker:
    breaker = Breaker(watch, failures=3, pause_s=1.0, pause_max_s=4.0)
    for _ in range(3):
        assert breaker.may_try()
        breaker.failed()
    return breaker


def test_it_opens_at_the_third_failure_in_a_row_and_not_at_three_among_successes() -> None:
    breaker = Breaker(Watch(), failures=3)
    for outcome in (breaker.failed, breaker.failed, breaker.succeeded, breaker.failed, breaker.failed):
        outcome()
        assert not breaker.is_open
    breaker.failed()
    assert breaker.is_open
    assert not breaker.may_try()
    assert breaker.times_opened == 1


def test_after_the_pause_exactly_one_call_is_sent_ahead() -> None:
    watch = Watch()
    breaker = opened(watch)
    watch.now_s = 0.99
    assert not breaker.may_try()
    watch.now_s = 1.0
    assert [breaker.may_try() for _ in range(5)] == [True, False, False, False, False]
    breaker.succeeded()
    assert [breaker.may_try() for _ in range(3)] == [True, True, True]


def test_each_failed_trial_doubles_the_pause_up_to_its_limit() -> None:
    watch = Watch()
    breaker = opened(watch)
    pauses = []
    for _ in range(4):
        begun = watch.now_s
        while not breaker.may_try():
            watch.now_s += 0.5
        pauses.append(watch.now_s - begun)
        breaker.failed()
    assert pauses == [1.0, 2.0, 4.0, 4.0]


def test_a_trial_that_never_comes_back_does_not_hold_it_open_for_ever() -> None:
    watch = Watch()
    breaker = opened(watch)
    watch.now_s = 1.0
    assert breaker.may_try()
    watch.now_s = 2.0
    assert breaker.may_try()


def test_calls_that_were_under_way_when_it_opened_do_not_lengthen_the_pause() -> None:
    watch = Watch()
    breaker = opened(watch)
    for _ in range(60):
        breaker.failed()
    watch.now_s = 1.0
    assert breaker.may_try()
