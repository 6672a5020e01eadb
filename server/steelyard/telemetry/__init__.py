"""Logs, traces and metrics: every instrument is declared once, with its unit.

Owns names and units of what is measured. Open to adapters and `app`, closed to `operations` and `accounting`.
"""
