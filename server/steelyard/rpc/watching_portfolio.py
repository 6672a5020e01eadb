"""Watches of portfolios on the wire: requests decoded, resume tokens sealed, messages encoded."""

from __future__ import annotations

from datetime import datetime

from steelyard.accounting.errors import PageTokenInvalid
from steelyard.operations.portfolio_feeds import PortfolioCause, PortfolioFilter
from steelyard.operations.watch_portfolio import PortfolioMessage, PortfolioPoint, PortfolioWatchRequest
from steelyard.operations.watch_positions import MessageKind
from steelyard.rpc import decode, encode_portfolio, limits
from steelyard.rpc.header import write_header
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.watching import seconds
from steelyard.v1 import portfolio_service_pb2 as wire

CAUSES = {
    PortfolioCause.BEGIN: wire.PORTFOLIO_CHANGE_CAUSE_BEGIN,
    PortfolioCause.COMMITS: wire.PORTFOLIO_CHANGE_CAUSE_COMMITS,
    PortfolioCause.PRICES: wire.PORTFOLIO_CHANGE_CAUSE_PRICES,
}


def watch_request(request: wire.WatchPortfolioRequest, *, tokens: PageTokens) -> PortfolioWatchRequest:
    """What is to be watched. Raises `InvalidField`, `PageTokenInvalid`."""
    decode.at_most(request.books, limits.BATCH_KEYS_MAX, field="books")
    books = {decode.book(text, field=f"books[{index}]") for index, text in enumerate(request.books)}
    return PortfolioWatchRequest(
        wanted=PortfolioFilter(
            accounts=decode.accounts(request.accounts),
            books=tuple(sorted(books)),
            instruments=decode.instruments(request.instruments),
        ),
        min_interval_s=seconds(request, "min_interval", default=0.5, bounds=(0.1, 60.0)),
        heartbeat_s=seconds(request, "heartbeat", default=10.0, bounds=(1.0, 300.0)),
        resume=_point(request, tokens),
    )


def _point(request: wire.WatchPortfolioRequest, tokens: PageTokens) -> PortfolioPoint | None:
    if not request.resume_token:
        return None
    values = tokens.opened(request, request.resume_token)
    if len(values) != 3 or not isinstance(values[2], datetime):
        raise PageTokenInvalid
    return PortfolioPoint(*values)


def message(
    told: PortfolioMessage, request: wire.WatchPortfolioRequest, *, tokens: PageTokens
) -> wire.WatchPortfolioResponse:
    """One message of a stream."""
    point = told.point
    answer = wire.WatchPortfolioResponse(
        header=write_header(told.commits, at=point.issued_at),
        resume_token=tokens.sealed(request, (point.epoch, point.digest, point.issued_at)),
    )
    if told.kind is MessageKind.CHANGE:
        answer.figures.CopyFrom(_figures(told))
    elif told.kind is MessageKind.RESET:
        answer.reset.reason = told.reason
    else:
        getattr(answer, told.kind.value.lower()).SetInParent()
    return answer


def _figures(told: PortfolioMessage) -> wire.WatchPortfolioFigures:
    assert told.view is not None
    assert told.cause is not None
    portfolio, standing = told.view.portfolio, told.view.limits
    return wire.WatchPortfolioFigures(
        cause=CAUSES[told.cause],
        currencies=[
            encode_portfolio.portfolio(each, at=portfolio.calculated_at, limits=standing)
            for each in portfolio.currencies.values()
        ],
    )
