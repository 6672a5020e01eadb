"""What the service can do, one module per verb, written against the ports it declares.

Owns the ports and the order of steps in a write. May know `accounting` and nothing else: the world is reached
through the Protocols in `ports`, telemetry not at all.
"""
