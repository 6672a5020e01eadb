"""The key of page and resume tokens: as set, else kept beside the embedded database and readable by its owner alone."""

import stat
from pathlib import Path

from steelyard.app.settings import read_settings
from steelyard.app.token_key import FILE_NAME, with_token_key


def key_of(folder: Path, **variables: str) -> str:
    settings = with_token_key(read_settings({"STEELYARD_DATA_DIRECTORY": str(folder), **variables}))
    assert settings.page_token_key is not None
    return settings.page_token_key.get_secret_value()


def test_it_is_kept_with_the_embedded_database_for_its_owner_alone(tmp_path: Path) -> None:
    first = key_of(tmp_path)
    assert key_of(tmp_path) == first
    assert len(first) == 64
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_file_that_holds_no_whole_key_is_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("ab\n")
    assert len(key_of(tmp_path)) == 64
    assert key_of(tmp_path) == key_of(tmp_path)


def test_what_is_set_is_used_and_nothing_kept(tmp_path: Path) -> None:
    assert key_of(tmp_path, STEELYARD_PAGE_TOKEN_KEY="a key of at least 16 bytes").startswith("a key")
    assert not list(tmp_path.iterdir())


def test_on_another_database_it_is_new_with_each_start(tmp_path: Path) -> None:
    url = "postgresql://somebody@127.0.0.1/book"
    assert key_of(tmp_path, STEELYARD_DATABASE_URL=url) != key_of(tmp_path, STEELYARD_DATABASE_URL=url)
    assert not list(tmp_path.iterdir())
