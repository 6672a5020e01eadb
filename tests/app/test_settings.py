"""Settings are checked as a whole: every wrong one is named, and no misspelt one passes for a default."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from steelyard.app.feed_side import broker_line, feed_rules
from steelyard.app.settings import SettingsWrong, read_settings
from steelyard.operations.feed_ports import FeedRules


def test_without_any_variable_it_listens_on_loopback_only_and_has_an_embedded_database() -> None:
    settings = read_settings({})
    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", 4800, None)
    assert settings.has_reflection
    assert settings.stale_after == timedelta(minutes=5)


def test_an_option_of_the_command_comes_before_the_environment() -> None:
    settings = read_settings({"STEELYARD_PORT": "5000", "STEELYARD_HOST": "::1"}, port=6000, host=None)
    assert (settings.host, settings.port) == ("::1", 6000)


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert read_settings({"STEELYARD_PORT": ""}).port == 4800


def test_every_wrong_and_every_unknown_name_is_told_at_once() -> None:
    environment = {
        "STEELYARD_PORT": "http",
        "STEELYARD_DATABASE_URL": "mysql://root:secret@host/db",
        "STEELYARD_POOL_SIZES": "3",
        "STEELYARD_ACCOUNT_TIME_ZONE": "Mars/Olympus",
        "STEELYARD_PG_BIN": "/usr/lib/postgresql/15/bin",
        "PATH": "/bin",
    }
    with pytest.raises(SettingsWrong) as wrong:
        read_settings(environment)
    told = str(wrong.value)
    assert "\n" not in told
    assert "secret" not in told
    assert "STEELYARD_POOL_SIZES is no setting (did you mean STEELYARD_POOL_SIZE?)" in told
    for name in ("STEELYARD_PORT", "STEELYARD_DATABASE_URL", "STEELYARD_ACCOUNT_TIME_ZONE"):
        assert name in told
    assert "STEELYARD_PG_BIN" not in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEELYARD_PORT", "70000"),
        ("STEELYARD_POOL_SIZE", "0"),
        ("STEELYARD_UNARY_DEADLINE_S", "nan"),
        ("STEELYARD_REFLECTION", "perhaps"),
        ("STEELYARD_MODE", "test"),
        ("STEELYARD_LOG_LEVEL", "loud"),
        ("STEELYARD_PAGE_TOKEN_KEY", "short"),
        ("STEELYARD_DATABASE_URL", "postgresql://host-without-database"),
        ("STEELYARD_AMQP_URL", "http://mq"),
        ("STEELYARD_AMQP_URL", "amqp://mq:port"),
        ("STEELYARD_EVENTS_ACCOUNT", " main"),
        ("STEELYARD_EVENTS_SYMBOLS", "("),
        ("STEELYARD_EVENTS_SIZE_TOLERANCE", "-1"),
        ("STEELYARD_INBOX_KEPT_DAYS", "0"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsWrong, match=name):
        read_settings({name: value})


def test_production_needs_a_database_and_a_key_and_shows_no_reflection() -> None:
    with pytest.raises(SettingsWrong, match="STEELYARD_DATABASE_URL and STEELYARD_PAGE_TOKEN_KEY"):
        read_settings({"STEELYARD_MODE": "production"})
    settings = read_settings(
        {
            "STEELYARD_MODE": "production",
            "STEELYARD_DATABASE_URL": "postgresql+asyncpg://u:p@db/steelyard",
            "STEELYARD_PAGE_TOKEN_KEY": "0123456789abcdef",
        }
    )
    assert not settings.has_reflection
    assert "0123456789abcdef" not in repr(settings)
    assert "u:p" not in repr(settings)


def test_the_home_folder_is_spelt_out() -> None:
    assert read_settings({"STEELYARD_DATA_DIRECTORY": "~/x"}).folder == Path.home() / "x"


def test_a_broker_is_named_without_its_password_and_makes_the_database_publish() -> None:
    off, on = read_settings({}), read_settings({"STEELYARD_AMQP_URL": "amqps://user:canary@mq.example/desk"})
    assert (off.is_publishing, on.is_publishing) == (False, True)
    assert broker_line(on) == "amqps://mq.example:5671/desk, events of account main"
    assert "canary" not in repr(on)
    quiet = read_settings({"STEELYARD_AMQP_URL": "amqp://mq", "STEELYARD_EVENTS_PUBLISH": "no"})
    assert broker_line(quiet) == "amqp://mq:5672, events of account main, nothing is published"
    assert read_settings({"STEELYARD_EVENTS_PUBLISH": "yes"}).is_publishing
    assert broker_line(off).startswith("none")


def test_feeds_are_followed_as_settings_say() -> None:
    rules = feed_rules(
        read_settings(
            {
                "STEELYARD_EVENTS_ACCOUNT": "fund",
                "STEELYARD_EVENTS_SYMBOLS": "^[A-Z]+EUR$",
                "STEELYARD_EVENTS_TIME_TOLERANCE_S": "2.5",
                "STEELYARD_EVENTS_SIZE_TOLERANCE": "0.01",
                "STEELYARD_ACCOUNT_TIME_ZONE": "Europe/Berlin",
            }
        )
    )
    assert (rules.account, rules.symbols, rules.time_zone) == ("fund", "^[A-Z]+EUR$", "Europe/Berlin")
    assert (rules.time_tolerance, rules.size_tolerance) == (timedelta(seconds=2.5), Decimal("0.01"))
    assert feed_rules(read_settings({})) == FeedRules()
