"""A private PostgreSQL started from binaries, for development, the demo and the tests.

Owns the process, its data directory and its lock. May know `operations` and `accounting`; never another adapter.
"""
