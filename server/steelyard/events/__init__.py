"""RabbitMQ: what other services tell us is consumed, what changed here is published.

Owns the queues, the form of messages, and the connections with their supervision. May know `operations`, `accounting`
and `telemetry`; never another adapter, and never SQL: the inbox and the outbox are ports.
"""
