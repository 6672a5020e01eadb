"""Bybit's position list on 127.0.0.1, as it is documented: it checks the signature, pages, and has bad days."""

import hashlib
import hmac
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from aiohttp import web

from steelyard.prices.bybit_calls import EPOCH
from tests.prices.bybit_server import Answer, envelope, refuse

API_KEY, SECRET = "key-1", "s3cret"


def position(symbol: str, size: str, *, average: str = "0", idx: int = 0, **changed: object) -> dict[str, object]:
    """One row of a list, of a signed size; more fields than we need."""
    return {
        "positionIdx": idx,
        "riskId": 1,
        "symbol": symbol,
        "side": "Buy" if size > "0" and not size.startswith("-") else "Sell" if size.startswith("-") else "",
        "size": size.removeprefix("-"),
        "avgPrice": average,
        "positionValue": "1",
        "markPrice": "",
        "unrealisedPnl": "",
        "cumRealisedPnl": "-12.5",
        "updatedTime": "1772798400000",
        **changed,
    }


class BybitAccount:
    """Answers for one account; `in_store` are other answers, given one by one, `always` one for good."""

    def __init__(self, at: datetime, *, page: int = 2) -> None:
        self.at = at
        self.page = page
        self.rows: list[dict[str, object]] = []
        self.in_store: deque[Answer] = deque()
        self.always: Answer | None = None
        self.queries: list[str] = []
        self.before: list[Callable[[], Awaitable[None]] | None] = []
        """What happens before each of the next answers."""
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listens on a free port."""
        app = web.Application()
        app.router.add_get("/v5/position/list", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Listens no more."""
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(request.query_string)
        happening = self.before.pop(0) if self.before else None
        if happening is not None:
            await happening()
        if self.in_store:
            return await self.in_store.popleft()(request)
        if self.always is not None:
            return await self.always(request)
        refusal = self._refusal(request)
        return await refusal(request) if refusal is not None else web.json_response(self._list(request))

    def _refusal(self, request: web.Request) -> Answer | None:
        sent = request.headers
        signed = "".join((sent["X-BAPI-TIMESTAMP"], sent["X-BAPI-API-KEY"], sent["X-BAPI-RECV-WINDOW"]))
        signed += request.rel_url.raw_query_string
        if sent["X-BAPI-API-KEY"] != API_KEY:
            return refuse(10003, "API key is invalid.")
        if sent["X-BAPI-SIGN"] != hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).hexdigest():
            return refuse(10004, "error sign! please check your signature generation algorithm.")
        apart_ms = abs(int(sent["X-BAPI-TIMESTAMP"]) - self.at_ms)
        if apart_ms > int(sent["X-BAPI-RECV-WINDOW"]):
            return refuse(10002, "invalid request, please check your server timestamp or recv_window param.")
        if request.query.get("category") != "linear" or not {"symbol", "settleCoin"} & set(request.query):
            return refuse(10001, "params error: symbol or settleCoin is required")
        return None

    @property
    def at_ms(self) -> int:
        """What the server's clock shows."""
        return round((self.at - EPOCH).total_seconds() * 1_000)

    def _list(self, request: web.Request) -> dict[str, Any]:
        symbol = request.query.get("symbol")
        rows = [row for row in self.rows if (row["symbol"] == symbol if symbol else row["size"] not in {"", "0"})]
        if symbol and not rows:
            rows = [position(symbol, "0")]
        start = int(request.query.get("cursor", "page%3A0").removeprefix("page%3A"))
        end = start + min(self.page, int(request.query["limit"]))
        cursor = f"page%3A{end}" if end < len(rows) else ""
        result = {"category": "linear", "nextPageCursor": cursor, "list": rows[start:end]}
        return envelope(result, at_ms=self.at_ms)
