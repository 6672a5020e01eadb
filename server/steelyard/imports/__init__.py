"""File formats turned into fills: one module per venue or layout.

Owns parsing and the reasons a row is rejected. May know `operations` and `accounting`; never another adapter.
"""
