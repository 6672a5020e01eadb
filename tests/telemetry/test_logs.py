"""Log lines are JSON objects that a machine reads; what must not be told is not in them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from decimal import Decimal

from steelyard.telemetry.logs import json_log, silent_log, take_over_libraries


def test_a_line_is_one_json_object_with_event_level_time_and_fields() -> None:
    stream = io.StringIO()
    json_log(stream=stream).info("rpc", method="/a/B", duration_ms=1.5)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["method"], line["duration_ms"]) == ("rpc", "info", "/a/B", 1.5)
    assert line["at"].endswith("Z")


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    log = json_log(level="warning", stream=stream)
    log.debug("quiet")
    log.info("quiet")
    log.warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_an_exception_is_told_with_its_frames_but_without_their_values() -> None:
    stream = io.StringIO()
    secret = "a value of a frame"
    try:
        raise RuntimeError("it broke")
    except RuntimeError as error:
        json_log(stream=stream).error("rpc_bug", exc_info=error)
    assert secret not in stream.getvalue()
    (told,) = json.loads(stream.getvalue())["exception"]
    assert (told["exc_type"], told["exc_value"]) == ("RuntimeError", "it broke")


def test_a_silent_log_writes_nothing() -> None:
    silent_log().error("nobody hears it", password="1234")


def test_what_libraries_log_is_a_line_like_ours_without_secrets() -> None:
    handlers, level = logging.root.handlers, logging.root.level
    stream = io.StringIO()
    try:
        take_over_libraries(json_log(stream=stream))
        logging.getLogger("a.library").warning("no way to %s", "redis://:word-of-pass@cache")
        logging.getLogger("a.library").info("unheard")
        try:
            raise RuntimeError("it broke")
        except RuntimeError:
            logging.getLogger("a.library").exception("failed")
    finally:
        logging.root.handlers, logging.root.level = handlers, level
    warned, failed = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (warned["event"], warned["logger"], warned["level"]) == ("library", "a.library", "warning")
    assert warned["text"] == "no way to redis://:[hidden]@cache"
    assert (failed["level"], failed["exception"][0]["exc_type"]) == ("error", "RuntimeError")


def test_fields_of_any_kind_and_any_name_make_a_line_with_secrets_hidden_each_time() -> None:
    stream = io.StringIO()
    log = json_log(stream=stream)
    for count in (1, 2):
        log.info("sums", total=Decimal("1.50"), password="opened", parts=["a", None], rate=float("nan"), level="mine")
        log.info("plain", count=count, done=True, text='"quoted"\n')
        log.info("bare")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["sums", "plain", "bare"] * 2
    for sums in lines[::3]:
        assert (sums["total"], sums["password"], sums["parts"]) == ("1.50", "[hidden]", ["a", None])
        assert sums["level"] == "info"
        assert sums["rate"] != sums["rate"]  # NaN
    assert [(line["count"], line["done"], line["text"]) for line in lines[1::3]] == [
        (1, True, '"quoted"\n'),
        (2, True, '"quoted"\n'),
    ]
    assert all(set(line) == {"event", "level", "at"} for line in lines[2::3])


class Written(io.StringIO):
    """Counts how often it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str, /) -> int:
        self.writes += 1
        return super().write(text)


async def test_lines_of_one_turn_of_the_loop_are_written_together_and_warnings_at_once_in_order() -> None:
    stream = Written()
    log = json_log(stream=stream)
    for number in range(3):
        log.info("unit", number=number)
    assert stream.writes == 0
    await asyncio.sleep(0)
    assert stream.writes == 1
    log.info("unit", number=3)
    log.warning("odd")
    log.info("unit", number=4)
    log.error("bug", exc_info=RuntimeError())
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        *["unit"] * 4,
        "odd",
        "unit",
        "bug",
    ]


def test_lines_that_a_loop_has_left_behind_when_it_ended_do_not_hold_up_those_of_the_next() -> None:
    stream = Written()
    log = json_log(stream=stream)

    async def leave(number: int) -> None:
        log.info("left", number=number)

    def told() -> list[int]:
        return [json.loads(line)["number"] for line in stream.getvalue().splitlines()]

    loop = asyncio.new_event_loop()
    loop.call_soon(lambda: log.info("left", number=1))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert told() == []
    asyncio.run(leave(2))
    assert told() == [1, 2]
