"""Commands that only talk to a running service.

Owns the words and tables a trader sees in the terminal. Knows `client` and no room of the server.
"""

from steelyard.cli.registration import register

__all__ = ["register"]
