"""Times as exports write them, turned into UTC texts that PostgreSQL reads.

The fast way is a table of hours: a local hour without a change of the clock has one UTC hour, so only minutes and
seconds have to be looked at. Hours with a change, and zones whose offset is not whole hours, go the long way.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from steelyard.accounting.errors import InvalidField
from steelyard.imports.rows import CACHE_MAX, PARSING, VALIDATION, RowError, remember, shown

_US = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})\s+([0-9]{1,2}):([0-9]{2}):([0-9]{2})\s+([AP])M", re.IGNORECASE)
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(\.[0-9]{1,6})?"
    r"(Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])"
)
_NO_OFFSET = ("Z", "+00:00", "-00:00")
_FIRST_DAY = "1970-01-01"
_MINUTES = frozenset(f"{minute:02d}:{second:02d}" for minute in range(60) for second in range(60))


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name in the IANA database. Raises `InvalidField`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidField("time_zone", f"{shown(name)} is not a known time zone") from None


class LocalTimes:
    """Reads US 12-hour times without offset, such as `6/20/2025 9:06:48 AM`, in one zone."""

    def __init__(self, zone: ZoneInfo, *, column: str) -> None:
        self._zone = zone
        self._column = column
        self._hours: dict[str, str] = {}
        """Local hour -> `YYYY-MM-DD HH:` in UTC; blank where minutes alone do not decide."""
        self.seconds: dict[str, str] = {}
        """Texts read before, where they do not depend on the row before: text -> UTC second."""

    def read(self, text: str, *, after: str) -> str:
        """The UTC second `YYYY-MM-DD HH:MM:SS` of a local time; `after` is that of the key's row before, or blank.

        In the hour that the clock repeats, a time that would step back is in the second pass. Raises `RowError`.
        """
        head, _, tail = text.partition(":")
        hour = self._hours.get(head + tail[5:])
        if hour and tail[:5] in _MINUTES:
            second = hour + tail[:5]
        else:
            local = self._local(text)
            self._learn_hour(head + tail[5:], local)
            earlier, later = self._both_passes(local)
            if earlier != later:
                return earlier if earlier >= after else later
            second = earlier
        return remember(self.seconds, text, value=second)

    def _local(self, text: str) -> datetime:
        match = _US.fullmatch(text.strip())
        if match is None:
            example = "is not a time such as 6/20/2025 9:06:48 AM"
            raise RowError(PARSING, self._column, reason=f"{shown(text)} {example}" if text.strip() else "is missing")
        month, day, year, hour, minute, second = (int(digits) for digits in match.groups()[:6])
        if not 1 <= hour <= 12:
            raise RowError(PARSING, self._column, reason=f"{shown(text)} is not on a 12-hour clock")
        is_afternoon = match[7] in "pP"
        try:
            return datetime(year, month, day, hour % 12 + 12 * is_afternoon, minute, second, tzinfo=self._zone)
        except ValueError:
            raise RowError(PARSING, self._column, reason=f"{shown(text)} is not a time that exists") from None

    def _both_passes(self, local: datetime) -> tuple[str, str]:
        if not 1970 <= local.year < 9999:
            raise RowError(VALIDATION, self._column, reason="must not be before 1970 or after 9998")
        earlier, later = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
        if earlier.astimezone(self._zone).replace(tzinfo=None) != local.replace(tzinfo=None):
            raise RowError(
                PARSING, self._column, reason=f"does not exist in {self._zone.key}: the clock skipped that hour"
            )
        if earlier.year < 1970:
            raise RowError(VALIDATION, self._column, reason="must not be before 1970")
        return earlier.isoformat(" ")[:19], later.isoformat(" ")[:19]

    def _learn_hour(self, name: str, local: datetime) -> None:
        if not 1970 < local.year < 9999:
            return
        ends = (local.replace(minute=0, second=0), local.replace(minute=59, second=59))
        offsets = {end.replace(fold=fold).utcoffset() for end in ends for fold in (0, 1)}
        offset = offsets.pop()
        is_regular = not offsets and offset is not None and not offset.total_seconds() % 3600
        remember(self._hours, name, value=ends[0].astimezone(UTC).isoformat(" ")[:14] if is_regular else "")


class OffsetTimes:
    """Reads ISO-8601 times with an offset or Z, to the microsecond."""

    def __init__(self, *, column: str) -> None:
        self._column = column
        self._days: set[str] = set()

    def read(self, text: str) -> str:
        """The time in UTC, `YYYY-MM-DD HH:MM:SS[.ffffff]`. Raises `RowError`."""
        match = _ISO.fullmatch(text)
        if match is None:
            return self._refuse(text)
        day, clock, fraction, offset = match.groups()
        if day not in self._days:
            self._learn_day(day)
        if offset not in _NO_OFFSET:
            shifted = datetime.fromisoformat(f"{day} {clock}{offset}").astimezone(UTC)
            day, clock = shifted.isoformat(" ")[:19].split(" ")
        if day < _FIRST_DAY:
            raise RowError(VALIDATION, self._column, reason="must not be before 1970")
        return f"{day} {clock}{fraction or ''}"

    def _learn_day(self, day: str) -> None:
        try:
            date.fromisoformat(day)
        except ValueError:
            raise RowError(PARSING, self._column, reason=f"{day} is not a day that exists") from None
        # One day of room on either side, so that an offset cannot lead out of the calendar.
        if not "1969-12-31" <= day < "9999-12-31":
            raise RowError(VALIDATION, self._column, reason="must not be before 1970 or after 9998")
        if len(self._days) >= CACHE_MAX:
            self._days.clear()
        self._days.add(day)

    def _refuse(self, text: str) -> str:
        if text != text.strip():
            return self.read(text.strip())
        if not text:
            raise RowError(PARSING, self._column, reason="is missing")
        reason = "is not a time with offset, such as 2025-06-20T16:06:48.123456Z, to the microsecond"
        raise RowError(PARSING, self._column, reason=f"{shown(text)} {reason}")
