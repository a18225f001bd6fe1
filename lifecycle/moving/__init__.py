"""A tenant's rows go from the pool to a schema of its own, or back, while the tenant goes on.

The job `tenants.move` makes the new home, notes with triggers what is written in the old one,
copies everything in chunks and what was written meanwhile again, compares both homes, and moves the
tenant in one transaction, in which alone writes are refused. Each transaction says how far it is:
killed anywhere, the move goes on from there. docs/lifecycle.md tells it in order, and
docs/decisions/0022-a-tenant-moves-while-it-works.md says why it is so.
"""
