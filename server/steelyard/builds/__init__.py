"""Building positions in the background: the task engine, its worker, its schedule and the progress feed.

Owns leases, fencing and retries of builds. May know `operations` and `accounting`; never another adapter.
"""
