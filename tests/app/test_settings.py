"""Settings are checked as a whole: every wrong one is named, and no misspelt one passes for a default."""

from datetime import timedelta
from pathlib import Path

import pytest

from steelyard.app.settings import SettingsWrong, read_settings


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
