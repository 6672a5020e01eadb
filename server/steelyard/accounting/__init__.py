"""What the numbers mean: pure values and functions over them.

Owns every rule of money and quantity: exact decimals, folding entries into positions and round trips, marks,
portfolio, features, performance and the trading calendar. It may not read a clock, do I/O, be async, or import
anything outside the standard library; it knows no table, no message and no wire format.
"""
