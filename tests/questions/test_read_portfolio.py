"""What positions add up to: exposure and PnL per settle currency, checked against the oracle."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from steelyard.accounting.keys import Account, InstrumentName
from steelyard.accounting.portfolio import CurrencyPortfolio, PortfolioGroup
from steelyard.accounting.round_trips import CostMethod
from steelyard.operations.ports import AccountRules
from tests.oracle import number
from tests.oracle.outcome import OraclePosition
from tests.oracle.portfolio import OracleGroup, OraclePortfolio, holding, portfolio
from tests.questions.books import NOW, Book, fill, key, oracle, same

DESK, OTHER = Account("desk"), Account("other")
FILLS = (
    fill("a", "2", "100", fee="1"),
    fill("b", "-1", "110", fee="0.5", minute=1),
    fill("c", "-0.5", "200", of=key("ETHUSDT", book="swing"), minute=1),
    fill("d", "2", "1", of=key("XRPUSDT")),
    fill("e", "3", "5", of=key("XRPUSDT", book="swing"), minute=1),
    fill("f", "-3", "4", of=key("XRPUSDT", book="swing"), minute=2),
    fill("g", "10000", "10000", of=key("BTCUSD")),
    fill("h", "10000", "20000", of=key("BTCUSD"), minute=1),
    fill("i", "3", "25000", of=key("MNQ MAR26", account="other")),
    fill("j", "-1", "25010", of=key("MNQ MAR26", account="other"), minute=1),
)
MARKS = {"BTCUSDT": "100", "ETHUSDT": "200", "BTCUSD": "16000", "MNQ MAR26": "25005"}


def expected(*, accounts: tuple[str, ...] = ("desk", "other"), method: str = "AVERAGE") -> dict[str, OraclePortfolio]:
    held: list[OraclePosition] = [position for of, position in oracle(FILLS).items() if of[0] in accounts]
    marks = {name: number(price) for name, price in MARKS.items()}
    return portfolio([holding(each, mark=marks.get(each.key.instrument), method=method) for each in held])


def assert_same_group(ours: PortfolioGroup, theirs: OracleGroup) -> None:
    assert same(ours.exposure, theirs.exposure)
    assert same(ours.unrealized_pnl, theirs.unrealized)
    assert same(ours.realized_pnl, theirs.realized)
    assert same(ours.quantity, theirs.quantity)


def assert_same(ours: CurrencyPortfolio, theirs: OraclePortfolio) -> None:
    assert same(ours.gross_exposure, theirs.gross_exposure)
    assert same(ours.net_exposure, theirs.net_exposure)
    assert same(ours.long_exposure, theirs.long_exposure)
    assert same(ours.short_exposure, theirs.short_exposure)
    assert same(ours.unrealized_pnl, theirs.unrealized)
    assert same(ours.realized_pnl, theirs.realized)
    assert same(ours.total_pnl, theirs.total)
    assert (ours.open_count, ours.long_count, ours.short_count) == (
        theirs.open_count,
        theirs.long_count,
        theirs.short_count,
    )
    assert (ours.stale_prices, ours.missing_prices) == (theirs.stale_prices, theirs.missing_prices)
    assert ours.complete is theirs.complete
    assert set(ours.by_instrument) == set(theirs.by_instrument)
    for name, group in ours.by_instrument.items():
        assert_same_group(group, theirs.by_instrument[name])
    for name, group in ours.by_book.items():
        assert_same_group(group, theirs.by_book[name])


async def test_a_portfolio_without_positions_has_no_currency(book: Book) -> None:
    view = (await book.portfolio.get()).value
    assert view.portfolio.currencies == {}
    assert view.portfolio.complete
    assert view.positions == ()


@pytest.mark.parametrize("cost", list(CostMethod))
async def test_currencies_are_summed_apart_as_the_oracle_sums_them(book: Book, cost: CostMethod) -> None:
    await book.record(*FILLS, rules=AccountRules(DESK, cost_method=cost))
    await book.mark(**MARKS)
    answer = await book.portfolio.get(accounts=[DESK, OTHER])
    theirs = expected(method="AVERAGE" if cost is CostMethod.AVERAGE else "FIFO")
    assert list(answer.value.portfolio.currencies) == ["BTC", "USD", "USDT"]
    for currency, ours in answer.value.portfolio.currencies.items():
        assert_same(ours, theirs[currency])
    assert answer.value.portfolio.calculated_at == NOW
    assert [commit.account for commit in answer.seen.commits] == ["desk", "other"]
    assert answer.value.portfolio.currencies["USDT"].missing_prices == ("XRPUSDT",)


async def test_accounts_and_instruments_narrow_a_portfolio(book: Book) -> None:
    await book.record(*FILLS)
    await book.mark(**MARKS)
    mine = (await book.portfolio.get(accounts=[OTHER])).value.portfolio.currencies
    assert list(mine) == ["USD"]
    assert_same(mine["USD"], expected(accounts=("other",))["USD"])
    everyone = (await book.portfolio.get()).value.portfolio.currencies
    assert everyone == (await book.portfolio.get(accounts=[DESK, OTHER])).value.portfolio.currencies
    one = (await book.portfolio.get(instruments=[InstrumentName("ETHUSDT")])).value.portfolio.currencies
    assert list(one["USDT"].by_instrument) == ["ETHUSDT"]
    both = await book.portfolio.get(accounts=[OTHER], instruments=[InstrumentName("ETHUSDT")])
    assert both.value.portfolio.currencies == {}


async def test_a_stale_price_is_named_and_still_counted(book: Book) -> None:
    await book.record(*FILLS)
    await book.mark(**MARKS)
    book.now = NOW + timedelta(seconds=301)
    usdt = (await book.portfolio.get()).value.portfolio.currencies["USDT"]
    assert usdt.stale_prices == ("BTCUSDT", "ETHUSDT")
    assert Fraction(usdt.gross_exposure) == 200


async def test_open_positions_come_along_in_full_when_asked_for(book: Book) -> None:
    await book.record(*FILLS)
    await book.mark(**MARKS)
    answer = (await book.portfolio.get(accounts=[DESK], has_positions=True)).value
    assert not answer.is_truncated
    assert [(view.row.key.instrument, view.row.key.book) for view in answer.positions] == [
        ("BTCUSD", "main"),
        ("BTCUSDT", "main"),
        ("XRPUSDT", "main"),
        ("ETHUSDT", "swing"),
    ]
    assert answer.positions[0].row.trip is not None
    assert answer.positions[1].features().position_size_norm == Decimal("0.5")
