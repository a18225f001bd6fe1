"""A provider of messages that behaves as it is told: for development, tests and measurements.

It is a process of its own (`manage.py sandbox`), which needs neither Django nor a database. Each
sender has a profile of its own (campaigns.sandbox.profile), and what was accepted stands in a
ledger, against which anybody's claims of what was sent can be held. See docs/sandbox.md.
"""
