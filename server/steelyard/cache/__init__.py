"""The cache in Redis: owns how values are kept there, and how a Redis that is down, slow or wrong is borne.

Its parts never fail a call and are never on the path of a write; whatever goes wrong is a counted miss.
"""
