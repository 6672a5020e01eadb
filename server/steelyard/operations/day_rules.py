"""Day rules as accounts keep them: a few texts, and the rule of the calendar that they mean."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.trading_calendar import (
    DEFAULT_CALENDAR_ZONE,
    DEFAULT_SESSION_CLOSE,
    DEFAULT_SESSION_ZONE,
    Calendar,
    DayRule,
    Session,
    time_zone,
)


def rule_of_texts(texts: Mapping[str, str]) -> DayRule:
    """The rule that an account's record means; what it leaves out has the defaults of the calendar."""
    if texts.get("kind", "CALENDAR") == "CALENDAR":
        return Calendar(texts.get("time_zone", DEFAULT_CALENDAR_ZONE))
    return Session(
        close_time=close_time(texts["close_time"]) if "close_time" in texts else DEFAULT_SESSION_CLOSE,
        zone=texts.get("time_zone", DEFAULT_SESSION_ZONE),
        weekdays_only=texts.get("weekdays_only") == "true",
    )


def texts_of_rule(rule: DayRule) -> dict[str, str]:
    """A rule as an account's record keeps it, nothing left out."""
    if isinstance(rule, Calendar):
        return {"kind": "CALENDAR", "time_zone": rule.zone}
    return {
        "kind": "SESSION",
        "close_time": rule.close_time.strftime("%H:%M"),
        "time_zone": rule.zone,
        "weekdays_only": "true" if rule.weekdays_only else "false",
    }


def close_time(text: str, *, field: str = "close_time") -> time:
    """A wall time `HH:MM`. Raises `InvalidField`."""
    hours, separator, minutes = text.partition(":")
    is_written_right = separator and len(hours) == len(minutes) == 2 and text.isascii()
    if not is_written_right or not (hours + minutes).isdigit() or int(hours) > 23 or int(minutes) > 59:
        raise InvalidField(field, "must be a time of day written HH:MM, 24 hours")
    return time(int(hours), int(minutes))


def check_rule(rule: DayRule, *, field: str = "day_rule") -> None:
    """Refuses a rule in a zone that is none. Raises `InvalidField`."""
    time_zone(rule.zone, field=f"{field}.time_zone")
