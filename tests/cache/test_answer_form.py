"""Answers written down and read again are the same answers, digit for digit; anything else is refused."""

from dataclasses import dataclass, replace
from datetime import date, time, timedelta
from decimal import Decimal

import pytest

from steelyard.accounting.keys import Account
from steelyard.accounting.limits import LimitState
from steelyard.accounting.trading_calendar import Session
from steelyard.operations.answer_form import AnswerForm
from steelyard.operations.ports import Commit
from steelyard.operations.read_performance import PerformanceFilter, PerformanceRead
from steelyard.operations.read_portfolio import PortfolioView
from steelyard.operations.reading import Answer, Seen, ServedFrom
from steelyard.operations.risk import Standing
from tests.questions.books import NOW, Book, fill, key

DESK = Account("desk")
SEEN = Seen((Commit(DESK, 7),), NOW)


@dataclass(frozen=True, slots=True)
class Odd:
    """Corners that real answers rarely have."""

    amount: Decimal | None
    took: timedelta
    pair: tuple[int, str]
    is_so: bool


@dataclass(frozen=True, slots=True)
class Other:
    """One field less."""

    amount: Decimal | None


async def test_portfolios_and_performance_come_back_as_they_were(database_url: str) -> None:
    book = Book(database_url)
    await book.begin()
    inverse = key("BTCUSD", leg="SHORT", book="hedge")
    await book.record(
        fill("1", "0.333333333333333333", "50000.123456789012345678", fee="1.5"),
        fill("2", "-1", "51000", minute=1),
        fill("3", "-7", "48000", of=inverse, minute=2),
    )
    await book.mark(BTCUSDT="51234.5", BTCUSD="50000")
    form: AnswerForm[PortfolioView] = AnswerForm(PortfolioView)
    answer = await book.portfolio.get(accounts=[DESK], has_positions=True)
    again = form.read(form.write(answer))
    assert again.value.portfolio == answer.value.portfolio
    assert list(again.value.positions) == list(answer.value.positions)
    assert again.seen == answer.seen
    limited = replace(answer.value, limits=Standing({"USDT": LimitState.EXCEEDED}, is_whole=False))
    assert form.read(form.write(replace(answer, value=limited))).value.limits == limited.limits

    days: AnswerForm[PerformanceRead] = AnswerForm(PerformanceRead)
    wanted = PerformanceFilter(accounts=[DESK], day=date(2026, 3, 2), day_rule=Session(time(16, 30), "America/Chicago"))
    performance = await book.performance.daily(wanted)
    assert performance.value.currencies
    assert days.read(days.write(performance)) == performance
    await book.close()


def test_absence_zero_signs_and_durations_are_kept_apart() -> None:
    form: AnswerForm[Odd] = AnswerForm(Odd)
    for amount in (None, Decimal(0), Decimal("-0.000000000000000001"), Decimal("1E+40")):
        odd = Odd(amount, timedelta(microseconds=-1), (3, "é\n\x00"), is_so=False)
        answer = Answer(odd, Seen((), NOW, ServedFrom.CACHE))
        again = form.read(form.write(answer))
        assert again == answer
        assert str(again.value.amount) == str(amount)


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"{}", b"[]", b"[[1,2],3]", b"\xff\xfe", b'[["x",1,[1,"a"],true],[[],"2026-03-06"]]', b"[" * 9_000],
)
def test_what_is_no_such_answer_is_refused(text: bytes) -> None:
    form: AnswerForm[Odd] = AnswerForm(Odd)
    with pytest.raises(ValueError):
        form.read(text)


def test_another_shape_has_another_fingerprint() -> None:
    fingerprints = {AnswerForm(kind).fingerprint for kind in (Odd, Other, PortfolioView, PerformanceRead)}
    assert len(fingerprints) == 4
    assert AnswerForm(Odd).fingerprint == AnswerForm(Odd).fingerprint


def test_a_type_that_answers_are_not_made_of_is_refused_at_once() -> None:
    with pytest.raises(TypeError):
        AnswerForm(object)
