"""Fills as desks send them while the service runs: histories of many keys, one fill of a key after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from steelyard.client import Steelyard
from steelyard.embedded import EmbeddedPostgres
from steelyard.v1 import common_pb2, fill_pb2, fill_service_pb2, fill_service_pb2_grpc
from tests.bench.book_files import account_of, instrument_of
from tests.bench.harness import BenchUnavailable
from tests.bench.histories import Execution, Market, flat_now_and_then
from tests.bench.import_speed import empty_book, make_template
from tests.bench.service import serving

ENDLESS = 10_000_000
BATCH = 1_000
SEEDED = 5
"""Fills that every key has before anything is measured."""
METHODS = "/steelyard.v1.FillService/"


class Traffic:
    """The fills of some keys, endless; every call goes on where the last one ended."""

    def __init__(self, keys: int, *, book: str = "main") -> None:
        """Traffics into different books never send the same fill, and are never late for one another."""
        self.keys = keys
        self._book = book
        markets = (Market(seed=2_000 + key, prefix=f"{book}-{key}-") for key in range(keys))
        self._histories = [flat_now_and_then(ENDLESS, market) for market in markets]
        self._counts = [0]

    def one(self, *, part: int = 0, parts: int = 1) -> fill_pb2.Fill:
        """The next fill, of the next key. Senders at the same time take a part of the keys each: none is late then."""
        while len(self._counts) < parts:
            self._counts.append(0)
        key = self._counts[part] * parts % self.keys + part
        self._counts[part] += 1
        return self.of(key)

    def of(self, key: int) -> fill_pb2.Fill:
        """The next fill of a key."""
        return message_of(key, next(self._histories[key]), book=self._book)

    def batches(
        self, count: int, *, size: int = BATCH, part: int = 0, parts: int = 1
    ) -> Iterator[fill_service_pb2.StreamFillsRequest]:
        """Numbered batches of a stream, the keys of its part in turn."""
        for number in range(1, count + 1):
            fills = [self.one(part=part, parts=parts) for _ in range(size)]
            yield fill_service_pb2.StreamFillsRequest(batch_number=number, fills=fills)


def message_of(key: int, fill: Execution, *, book: str) -> fill_pb2.Fill:
    """An execution of a key as it is sent."""
    at = Timestamp()
    at.FromDatetime(fill.executed_at)
    return fill_pb2.Fill(
        fill_id=fill.fill_id,
        account=account_of(key),
        book=book,
        instrument=instrument_of(key),
        side=common_pb2.SIDE_BUY if fill.delta > 0 else common_pb2.SIDE_SELL,
        quantity=f"{abs(fill.delta):f}",
        price=f"{fill.price:f}",
        fee=f"{fill.fee:f}",
        executed_at=at,
    )


async def new_book(postgres: EmbeddedPostgres, name: str, traffic: Traffic) -> str:
    """The url of a database in which every key of the traffic has a position already."""
    await make_template(postgres)
    url = await empty_book(postgres, name)
    async with serving(url) as client:
        await stream(client, list(traffic.batches(SEEDED, size=traffic.keys)))
    return url


async def stream(client: Steelyard, batches: Sequence[fill_service_pb2.StreamFillsRequest]) -> int:
    """Streams batches and counts what was recorded. Raises `BenchUnavailable` when anything failed."""
    stub = fill_service_pb2_grpc.FillServiceStub(client.channel)
    recorded = 0
    async for answer in stub.StreamFills(iter(batches)):
        if answer.failures:
            raise BenchUnavailable(f"a fill was refused: {answer.failures[0].error.message}")
        recorded += answer.recorded
    return recorded


async def stream_encoded(client: Steelyard, batches: Sequence[bytes]) -> None:
    """The same with batches that are bytes already: the caller shares the processors with the service."""
    channel: Any = client.channel
    call = channel.stream_stream(f"{METHODS}StreamFills", request_serializer=None, response_deserializer=None)
    answered = 0
    async for raw in call(iter(batches)):
        answered += 1
        if fill_service_pb2.StreamFillsResponse.FromString(raw).failures:
            raise BenchUnavailable("a fill was refused")
    if answered != len(batches):
        raise BenchUnavailable(f"{answered} of {len(batches)} batches were answered")
