"""Alembic's entry: runs the revisions on the connection that `apply` hands over, each in a transaction of its own."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
