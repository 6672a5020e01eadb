"""The typed asynchronous client: connection, calls, resuming watches, Decimal in and out, errors by reason.

Owns what a caller of the service needs. Knows the contract (`steelyard.v1`) and no room of the server.
"""
