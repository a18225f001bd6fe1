"""How often a sign-up is tried before an operator must look: as data."""

from jobs.retry import RetryPolicy

# Full jitter: about 1, 2, 4 … seconds to two minutes apart, ten minutes and some in all.
# Long enough for a mail server's restart, short enough that a person is asked the same hour.
POLICY = RetryPolicy(attempts=12, base=2.0, cap=120.0)
