"""What tests of health stand on: besides the database, a Redis."""

from tests.support.redis import redis_process, redis_server

__all__ = ["redis_process", "redis_server"]
