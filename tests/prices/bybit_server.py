"""Bybit's ticker endpoint on 127.0.0.1, as it is documented: answers, error codes, limits, and bad days."""

import asyncio
import json
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

TIME_MS = 1_772_798_400_000
"""2026-03-06 12:00:00 UTC, what the server's clock shows."""
LISTED = {"BTCUSDT": "51000.10", "ETHUSDT": "3000.5", "1000PEPEUSDT": "0.0071234", "BTCPERP": "51001"}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def envelope(result: object, *, code: int = 0, message: str = "OK", at_ms: int = TIME_MS) -> dict[str, Any]:
    """The body of every answer."""
    return {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": at_ms}


def ticker(symbol: str, **changed: object) -> dict[str, object]:
    """One linear ticker; more fields than we need."""
    price = LISTED.get(symbol, "1")
    return {
        "symbol": symbol,
        "lastPrice": "1.23",
        "indexPrice": "1.24",
        "markPrice": price,
        "prevPrice24h": "1",
        "fundingRate": "0.0001",
        "bid1Price": "1",
        **changed,
    }


def tickers(*rows: dict[str, object], at_ms: int = TIME_MS) -> Answer:
    """An answer with these tickers."""
    return say(envelope({"category": "linear", "list": list(rows)}, at_ms=at_ms))


def say(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer with a body: text as it is, anything else as JSON."""

    async def answer(_: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, status=status, headers=headers, content_type="application/json")

    return answer


def refuse(code: int, message: str, **headers: str) -> Answer:
    """An error as the documentation writes it: status 200 and a code."""
    return say(envelope({}, code=code, message=message), headers={k.replace("_", "-"): v for k, v in headers.items()})


def late(seconds: float, answer: Answer) -> Answer:
    """The same, later."""

    async def answer_late(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await answer(request)

    return answer_late


async def cut(request: web.Request) -> web.StreamResponse:
    """Closes the connection in the middle of the answer."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"retCode":0,')
    assert request.transport is not None
    request.transport.close()
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    """More bytes than any answer has."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b" " * 10_000)
    return response


class BybitServer:
    """Answers as Bybit would, unless an instrument has other answers in store; those are given one by one."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.at_once: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.total_at_once = 0
        self.most_total_at_once = 0
        self.in_store: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self.always: dict[str, Answer] = {}
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listens on a free port."""
        app = web.Application()
        app.router.add_get("/v5/market/tickers", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Listens no more."""
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        symbol = request.query.get("symbol", "")
        self.asked[symbol] += 1
        self.at_once[symbol] += 1
        self.total_at_once += 1
        self.most_at_once[symbol] = max(self.most_at_once[symbol], self.at_once[symbol])
        self.most_total_at_once = max(self.most_total_at_once, self.total_at_once)
        try:
            return await self._choose(request, symbol)(request)
        finally:
            self.at_once[symbol] -= 1
            self.total_at_once -= 1

    def _choose(self, request: web.Request, symbol: str) -> Answer:
        if request.query.get("category") != "linear":
            return refuse(10001, "params error: Category is invalid")
        if self.in_store[symbol]:
            return self.in_store[symbol].popleft()
        if symbol in self.always:
            return self.always[symbol]
        if symbol not in LISTED:
            return refuse(10001, "params error: symbol invalid")
        return tickers(ticker(symbol))
