"""How much of it a run does."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """`rounds` of `seconds` each, sides in turn; the medians of the rounds' ratios are quoted."""

    rounds: int
    seconds: float
    tenants: int  # With works that wait.
    works: int  # That wait in all, in the large queue.
    customers: int  # Of each of the 400 tenants.
    sign_ups: int  # One after another, for the way to ready.
    idle_seconds: float
    published: int  # Events, one after another, in a round.
    deliveries: int  # Of a round.
    flood: int  # Deliveries of one tenant that are in the way of others'.
    of_bystander: int  # Events of each of these others, in a round.
    imported: int  # Customers, of one file.
    recipients: int  # Of one campaign,
    capped: int  # and of one at a provider that takes only so many a second.
    audience: int  # Customers of a tenant; a campaign means every fifth.


FULL = Size(
    rounds=4,
    seconds=5.0,
    tenants=10_000,
    works=1_000_000,
    customers=2_500,
    sign_ups=30,
    idle_seconds=60.0,
    published=500,
    deliveries=6_000,
    flood=100_000,
    of_bystander=10,
    imported=100_000,
    recipients=3_000,
    capped=4_000,
    audience=1_000_000,
)
QUICK = Size(
    rounds=3,
    seconds=2.0,
    tenants=2_000,
    works=100_000,
    customers=250,
    sign_ups=10,
    idle_seconds=15.0,
    published=200,
    deliveries=2_000,
    flood=10_000,
    of_bystander=4,
    imported=20_000,
    recipients=3_000,
    capped=1_600,
    audience=100_000,
)
