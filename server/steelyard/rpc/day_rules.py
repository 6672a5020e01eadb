"""Day rules into the domain and out of it: performance asks by them, accounts keep them."""

from __future__ import annotations

from steelyard.accounting.trading_calendar import (
    DEFAULT_CALENDAR_ZONE,
    DEFAULT_SESSION_CLOSE,
    DEFAULT_SESSION_ZONE,
    Calendar,
    DayRule,
    Session,
)
from steelyard.operations.day_rules import close_time
from steelyard.rpc import decode
from steelyard.v1 import admin_pb2


def day_rule(rule: admin_pb2.DayRule, *, field: str = "day_rule") -> DayRule | None:
    """The rule with every default filled in; None where none is stated. Raises `InvalidField`."""
    kind = rule.WhichOneof("rule")
    if kind is None:
        return None
    if kind == "calendar":
        zone = rule.calendar.time_zone or DEFAULT_CALENDAR_ZONE
        decode.time_zone(zone, field=f"{field}.calendar.time_zone")
        return Calendar(zone)
    session = rule.session
    zone = session.time_zone or DEFAULT_SESSION_ZONE
    decode.time_zone(zone, field=f"{field}.session.time_zone")
    close = DEFAULT_SESSION_CLOSE
    if session.close_time:
        close = close_time(session.close_time, field=f"{field}.session.close_time")
    weekdays_only = session.weekdays_only if session.HasField("weekdays_only") else True
    return Session(close, zone, weekdays_only=weekdays_only)


def encode_day_rule(rule: DayRule) -> admin_pb2.DayRule:
    """A rule, nothing left out."""
    if isinstance(rule, Calendar):
        return admin_pb2.DayRule(calendar=admin_pb2.CalendarDay(time_zone=rule.zone))
    return admin_pb2.DayRule(
        session=admin_pb2.SessionDay(
            close_time=rule.close_time.strftime("%H:%M"), time_zone=rule.zone, weekdays_only=rule.weekdays_only
        )
    )
