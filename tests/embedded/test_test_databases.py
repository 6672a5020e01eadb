"""The databases that the tests themselves stand on."""

import asyncpg

from tests.support.postgres import TestServer


async def test_each_test_gets_a_database_of_its_own(postgres_server: TestServer, empty_database_url: str) -> None:
    other_url = postgres_server.create_empty_database()
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE fills (fill_id text)")
    other = await asyncpg.connect(other_url)
    assert await other.fetchval("SELECT to_regclass('fills')") is None
    await connection.close()
    await other.close()
    postgres_server.drop_database(other_url)


async def test_a_dropped_database_takes_open_connections_with_it(postgres_server: TestServer) -> None:
    url = postgres_server.create_empty_database()
    connection = await asyncpg.connect(url)
    postgres_server.drop_database(url)
    administrator = await asyncpg.connect(postgres_server.postgres.url)
    name = url.rsplit("/", 1)[1]
    assert await administrator.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name) == 0
    await administrator.close()
    connection.terminate()


async def test_a_migrated_database_starts_with_the_newest_schema(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT to_regclass('fills')") is not None
    await connection.close()
