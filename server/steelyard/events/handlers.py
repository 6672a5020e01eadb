"""What consuming a message means, one handler per queue: decode, hand over, say what it came to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from steelyard.accounting.errors import SteelyardError
from steelyard.accounting.keys import Account, FillId
from steelyard.events.codec import decode_execution, decode_order_state, decode_report, trace_of
from steelyard.operations.apply_venue_report import ApplyVenueReport
from steelyard.operations.feed_messages import FeedOutcome, Receipt, usable_id
from steelyard.operations.observing import Origin, origin, work_for
from steelyard.operations.order_events import ApplyOrderEvents
from steelyard.operations.record_executions import Message, RecordExecutions

EXECUTION_BATCH = 200
"""Executions that are recorded in one transaction."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as the broker handed it over."""

    body: bytes
    received_at: datetime
    sent_at: datetime | None = None
    """The message's own timestamp property; None: it had none."""
    traceparent: str = ""
    """The header of that name where its sender records the trace; empty: he does not."""

    def origin(self, trace_id: str | None) -> Origin:
        """Whom handling this message works for; the id that the message itself names goes before the header's."""
        return Origin(trace_id or Origin.of_text(self.traceparent).trace_id, self.traceparent)


Verdict = FeedOutcome | SteelyardError
"""What a message came to, or why it is refused for good."""


class Handler(Protocol):
    """Takes the messages of one queue."""

    batch_max: int
    """How many it takes at a time."""

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Verdict]:
        """One verdict per message. Raises what may go away by itself: then all of them are to be tried again."""
        ...


class ReportHandler:
    """Position reports of a venue, one by one, in order."""

    batch_max = 1

    def __init__(self, apply: ApplyVenueReport, *, source: str, account: Account) -> None:
        self._apply = apply
        self._source = source
        self._account = account

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Verdict]:
        """Applies the reports. Raises retryable errors."""
        return [await self._one(delivery) for delivery in deliveries]

    async def _one(self, delivery: Delivery) -> Verdict:
        try:
            message = decode_report(delivery.body, account=self._account)
            origin.set(delivery.origin(message.trace_id))
            receipt = _receipt(delivery, source=self._source, event_id=message.event_id, trace_id=message.trace_id)
            return (await self._apply.apply(message.report, receipt)).outcome
        except SteelyardError as error:
            return _final(error)


class OrderEventHandler:
    """Cumulative order events, one by one, in order."""

    batch_max = 1

    def __init__(self, apply: ApplyOrderEvents, *, source: str, account: Account) -> None:
        self._apply = apply
        self._source = source
        self._account = account

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Verdict]:
        """Applies the events. Raises retryable errors."""
        return [await self._one(delivery) for delivery in deliveries]

    async def _one(self, delivery: Delivery) -> Verdict:
        try:
            receipt = _receipt(delivery, source=self._source, event_id=None, trace_id=trace_of(delivery.body))
            origin.set(delivery.origin(receipt.trace_id))
            state = decode_order_state(delivery.body, account=self._account, otherwise_at=receipt.time)
            if state is None:
                return FeedOutcome.IGNORED
            if state.event_id is not None:
                receipt = _receipt(delivery, source=self._source, event_id=state.event_id, trace_id=receipt.trace_id)
            return await self._apply.apply(state, receipt)
        except SteelyardError as error:
            return _final(error)


class ExecutionHandler:
    """Executions, many in one transaction: their order of arrival does not matter."""

    batch_max = EXECUTION_BATCH

    def __init__(self, record: RecordExecutions, *, source: str, account: Account) -> None:
        self._record = record
        self._source = source
        self._account = account

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Verdict]:
        """Records the executions. Raises retryable errors."""
        verdicts: dict[int, Verdict] = {}
        messages: dict[int, Message] = {}
        origins: dict[tuple[Account, FillId], Origin] = {}
        for place, delivery in enumerate(deliveries):
            try:
                execution = decode_execution(delivery.body, account=self._account)
            except SteelyardError as error:
                verdicts[place] = error
                continue
            if execution is None:
                verdicts[place] = FeedOutcome.IGNORED
                continue
            receipt = Receipt(
                source=self._source,
                event_id=execution.fill_id,
                content_hash=execution.content_hash,
                received_at=delivery.received_at,
                sent_at=delivery.sent_at,
                trace_id=execution.trace_id,
            )
            messages[place] = (execution, receipt)
            origins[execution.key.account, execution.fill_id] = delivery.origin(execution.trace_id)
        if messages:
            work_for(origins)
            results = await self._record.record(list(messages.values()))
            verdicts.update(zip(messages, results, strict=True))
        return [verdicts[place] for place in range(len(deliveries))]


def _receipt(delivery: Delivery, *, source: str, event_id: str | None, trace_id: str | None) -> Receipt:
    digest = hashlib.sha256(delivery.body)
    return Receipt(
        source=source,
        event_id=digest.hexdigest() if event_id is None else usable_id(event_id),
        content_hash=digest.digest(),
        received_at=delivery.received_at,
        sent_at=delivery.sent_at,
        trace_id=trace_id,
    )


def _final(error: SteelyardError) -> SteelyardError:
    """A refusal for good; what may go away by itself is raised."""
    if error.retryable:
        raise error
    return error
