"""Secrets are taken out of what is written, by name, by shape and by value."""

import io
import json

import pytest

from steelyard.telemetry.logs import json_log
from steelyard.telemetry.redaction import HIDDEN, Redaction


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "cannot reach postgresql://desk:hunter2hunter2@db:5432/book",
            "cannot reach postgresql://desk:[hidden]@db:5432/book",
        ),
        ("redis://:s3cret-word@cache:6379/0 refused", "redis://:[hidden]@cache:6379/0 refused"),
        ("authorization: Bearer abc.def-ghi", "authorization: Bearer [hidden]"),
        ("key sy_ab12cd34_0123456789abcdefghijklmnop is unknown", "key sy_ab12cd34_[hidden] is unknown"),
        ('{"x-api-key": "0123456789abcdef"}', '{"x-api-key": "[hidden]"}'),
        ("password=hunter2 sslmode=require", "password=[hidden] sslmode=require"),
        ("https://example.org/a?b=c", "https://example.org/a?b=c"),
        ("SIM-101 bought 2 MNQ SEP25 at 25310.25", "SIM-101 bought 2 MNQ SEP25 at 25310.25"),
    ],
)
def test_what_is_shaped_like_a_secret_is_hidden(text: str, kept: str) -> None:
    assert Redaction().text(text) == kept


@pytest.mark.parametrize("secret", ['pass"word\\x', "pä ss/w@rd", "plain-secret"])
def test_a_known_secret_is_hidden_however_it_is_written(secret: str) -> None:
    stream = io.StringIO()
    log = json_log(stream=stream, redaction=Redaction([secret]))
    log.error("failed", text=f"it was {secret}!", nested={"deep": [secret]})
    try:
        raise ConnectionError(f"no way to {secret}")
    except ConnectionError as error:
        log.error("failed", exc_info=error)
    for line in stream.getvalue().splitlines():
        json.loads(line)
        assert HIDDEN in line
        assert secret not in line
        assert json.dumps(secret)[1:-1] not in line


def test_a_field_named_like_a_secret_is_hidden_whatever_it_holds() -> None:
    stream = io.StringIO()
    json_log(stream=stream).info("asked", api_key="abc", redis_password="abc", key_id="k-1", page=2)
    told = json.loads(stream.getvalue())
    assert (told["api_key"], told["redis_password"], told["key_id"], told["page"]) == (HIDDEN, HIDDEN, "k-1", 2)
