"""Logs: one JSON object per line, a static event name and fields for the rest."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as _quoted
from math import isfinite
from typing import Any, Protocol, TextIO, cast

import structlog

from steelyard.telemetry.redaction import Redaction

_encode = json.JSONEncoder(default=str).encode
STAMPED = ("event", "level", "at")
"""What every line has, whoever writes it."""
LINE_FORMS_MAX = 1_000
LIBRARY_TEXT_MAX = 1_000
"""Characters of what a library logs."""
TOLD_BY_US = ("aiormq", "aio_pika")
"""Libraries that log each lost connection, as the part of ours that lost it does."""


class Log(Protocol):
    """What a part needs to write log lines; structlog's loggers fulfil it by shape."""

    def debug(self, event: str, **fields: Any) -> Any:
        """A line for whoever looks closely."""
        ...

    def info(self, event: str, **fields: Any) -> Any:
        """A line for every unit of work."""
        ...

    def warning(self, event: str, **fields: Any) -> Any:
        """Something an operator may have to see to."""
        ...

    def error(self, event: str, **fields: Any) -> Any:
        """A failure of ours; `exc_info` carries the exception."""
        ...


def json_log(*, level: str = "info", stream: TextIO | None = None, redaction: Redaction | None = None) -> Log:
    """A logger that writes JSON lines (to standard error unless told otherwise); makes no global settings.

    What looks like a secret is hidden in any case; `redaction` knows the values of some.
    """
    hide = redaction or Redaction()
    number = logging.getLevelNamesMapping()[level.upper()]
    target = stream or sys.stderr
    whole = cast(
        Log,
        structlog.wrap_logger(
            structlog.PrintLogger(target),
            wrapper_class=structlog.make_filtering_bound_logger(number),
            processors=[
                structlog.contextvars.merge_contextvars,
                hide.fields,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
                # Without locals: they may hold what must not be logged.
                structlog.processors.ExceptionRenderer(
                    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
                ),
                structlog.processors.JSONRenderer(default=str),
                hide.line,
            ],
            cache_logger_on_first_use=True,
        ),
    )
    return _Lines(whole, target, level=number, hide=hide)


class _Lines:
    """Writes plain lines by itself, in structlog's form at a fraction of its cost: each call writes one or two. What
    carries an exception goes through structlog.

    Lines for every unit of work are written together, at the end of the event loop's turn; warnings and errors, and
    whatever is told where no loop runs, at once.
    """

    def __init__(self, whole: Log, stream: TextIO, *, level: int, hide: Redaction) -> None:
        self._whole = whole
        self._stream = stream
        self._hide = hide
        self._stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="at")
        self._waiting: list[str] = []
        self._seen_to_by: asyncio.AbstractEventLoop | None = None
        """The loop that will write what waits."""
        self._forms: dict[tuple[str, ...], Sequence[str]] = {}
        """What stands before each value of a line and behind the last, by the names of its fields, none of them that of
        a secret."""
        self._is_debug, self._is_info = level <= logging.DEBUG, level <= logging.INFO
        self._is_warning, self._is_error = level <= logging.WARNING, level <= logging.ERROR

    def debug(self, event: str, **fields: Any) -> None:
        """A line for whoever looks closely."""
        if self._is_debug:
            self._write("debug", event, fields=fields)
            self._see_to_it()

    def info(self, event: str, **fields: Any) -> None:
        """A line for every unit of work."""
        if self._is_info:
            self._write("info", event, fields=fields)
            self._see_to_it()

    def warning(self, event: str, **fields: Any) -> None:
        """Something an operator may have to see to."""
        if "exc_info" in fields:
            self._flush()
            self._whole.warning(event, **fields)
        elif self._is_warning:
            self._write("warning", event, fields=fields)
            self._flush()

    def error(self, event: str, **fields: Any) -> None:
        """A failure of ours; `exc_info` carries the exception."""
        if "exc_info" in fields:
            self._flush()
            self._whole.error(event, **fields)
        elif self._is_error:
            self._write("error", event, fields=fields)
            self._flush()

    def _write(self, level: str, event: str, *, fields: dict[str, Any]) -> None:
        names = tuple(fields)
        form = self._forms.get(names)
        if form is None:
            fields, form = self._new_form(fields)
        at = self._stamp(None, level, {})["at"]
        told = [before + _value(value) for before, value in zip(form, fields.values(), strict=False)]
        line = f'{"".join(told)}{form[-1]}"event": {_quoted(event)}, "level": "{level}", "at": "{at}"}}'
        self._waiting.append(self._hide.text(line))

    def _see_to_it(self) -> None:
        """Has what waits written at the end of this turn of the loop, or at once where none runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
            return
        # A loop that has ended meanwhile may have left lines behind.
        if self._seen_to_by is not loop:
            self._seen_to_by = loop
            loop.call_soon(self._flush)

    def _new_form(self, fields: dict[str, Any]) -> tuple[dict[str, Any], Sequence[str]]:
        """The fields with secrets hidden, and what stands around the values; remembered where nothing was hidden."""
        hidden = self._hide.fields(None, "", dict(fields))
        told = {name: value for name, value in hidden.items() if name not in STAMPED}
        form = [("{" if not place else ", ") + f"{_quoted(name)}: " for place, name in enumerate(told)]
        form = [*form, ", " if form else "{"]
        if told == fields and len(self._forms) < LINE_FORMS_MAX:
            self._forms[tuple(fields)] = form
        return told, form

    def _flush(self) -> None:
        self._seen_to_by = None
        if self._waiting:
            lines, self._waiting = self._waiting, []
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()


def json_line(fields: Mapping[str, Any]) -> str:
    """A JSON object in one line; what is no text, number or list is told as text."""
    return "{" + ", ".join([f"{_quoted(name)}: {_value(value)}" for name, value in fields.items()]) + "}"


def _value(value: Any) -> str:
    kind = value.__class__
    if kind is str:
        return _quoted(value)
    if value is None:
        return "null"
    return repr(value) if kind is int or (kind is float and isfinite(value)) else _encode(value)


class _Forward(logging.Handler):
    """Hands what libraries log to a log of ours."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        write = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        is_raised = record.exc_info is not None and record.exc_info[1] is not None
        more = {"exc_info": record.exc_info[1]} if is_raised and record.exc_info is not None else {}
        write("library", logger=record.name, text=record.getMessage()[:LIBRARY_TEXT_MAX], **more)


def take_over_libraries(log: Log) -> None:
    """Makes warnings and errors of libraries lines of this log, in the whole process, secrets hidden like ours."""
    logging.root.handlers = [_Forward(log)]
    logging.root.setLevel(logging.WARNING)
    for name in TOLD_BY_US:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def silent_log() -> Log:
    """A logger that writes nothing."""
    return cast(Log, structlog.wrap_logger(structlog.ReturnLogger(), processors=[_drop]))


def _drop(*line: Any) -> Any:
    raise structlog.DropEvent
