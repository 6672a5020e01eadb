"""Work in the background: the task engine, its worker, the sweep, and the feed that tells how far a build is.

Owns procrastinate and nothing of what a build does: that is `operations`, reached through ports. May know `operations`
and `accounting`; never another adapter, so whoever wires a worker hands it the parts it runs.
"""
