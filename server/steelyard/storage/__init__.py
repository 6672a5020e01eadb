"""PostgreSQL: the only room that knows SQL, one module per table.

Owns tables, statements, transactions and the translation of driver errors into domain errors. May know `operations`
and `accounting`; never another adapter.
"""
