"""The gRPC face: server, interceptors, encoding, statuses and one thin servicer per service.

Owns the translation between the contract and the domain; with the client it is the only reader of `steelyard.v1`.
May know `operations` and `accounting`; never another adapter.
"""
