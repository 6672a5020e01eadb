"""Fixtures every test may ask for; each is defined in `tests/support`."""

from tests.support.postgres import database_url, empty_database_url, postgres_server

__all__ = ["database_url", "empty_database_url", "postgres_server"]
