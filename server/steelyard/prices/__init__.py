"""Price sources: owns how an exchange is asked for the latest price, and how its errors and limits are borne.

Knows no store: what is had is handed back. No read ever waits for this room unless it demands to.
"""
