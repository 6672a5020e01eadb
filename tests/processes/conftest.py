"""Two serving processes on one port: one pair for the tests of a file, or one of a test's own to be broken."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.app.processes import Serving, serving
from tests.processes.cluster import TOKEN_KEY
from tests.support.postgres import TestServer


@contextmanager
def serving_two(folder: Path, url: str) -> Iterator[Serving]:
    variables = {
        "STEELYARD_DATABASE_URL": url,
        "STEELYARD_PAGE_TOKEN_KEY": TOKEN_KEY,
        "STEELYARD_POOL_SIZE": "5",
        "STEELYARD_LOG_LEVEL": "info",
    }
    with serving(folder, "--processes", "2", **variables) as service:
        yield service


@pytest.fixture
def two(tmp_path: Path, database_url: str) -> Iterator[Serving]:
    with serving_two(tmp_path, database_url) as service:
        yield service


@pytest.fixture(scope="module")
def shared_two(tmp_path_factory: pytest.TempPathFactory, postgres_server: TestServer) -> Iterator[Serving]:
    url = postgres_server.create_database()
    with serving_two(tmp_path_factory.mktemp("two"), url) as service:
        yield service
        assert service.end() == 0
    postgres_server.drop_database(url)
