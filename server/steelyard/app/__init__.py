"""The processes of steelyard and the one place that wires concrete parts together.

Owns settings, assembly, the clock and the console script. May know every room; no room may know it.
"""
