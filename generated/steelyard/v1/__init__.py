"""Messages and services of the contract `steelyard.v1`, generated from protos/ by `make protos`, not by hand.

Imported by `steelyard.rpc` and `steelyard.client` only; it knows no room.
"""
