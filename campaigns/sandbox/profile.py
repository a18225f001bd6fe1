"""How the sandbox treats one sender's messages; `PUT /control/accounts/{sender}` sets it.

What happens by chance is drawn from the seed, the message's key and the number of the try alone, so
that a run repeats whatever the order in which its requests come.
"""

import math
from collections.abc import Iterable
from hashlib import blake2b
from statistics import NormalDist
from typing import Annotated

import msgspec

from campaigns.sandbox.faults import FAULTS

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]  # Of all, from 0 to 1.

_Z99 = NormalDist().inv_cdf(0.99)


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is misspelt is refused."""


class Uniform(Strict, frozen=True, tag_field="kind", tag="uniform"):
    """Any time between two, in seconds."""

    least: Seconds
    most: Seconds

    def at(self, share: float) -> float:
        """The time that so large a share of all draws does not exceed."""
        return self.least + share * (self.most - self.least)


class Lognormal(Strict, frozen=True, tag_field="kind", tag="lognormal"):
    """Mostly quick, with a long tail: its median and its 99th percentile, in seconds."""

    p50: Annotated[float, msgspec.Meta(gt=0, le=86_400)]
    p99: Annotated[float, msgspec.Meta(gt=0, le=86_400)]

    def __post_init__(self) -> None:
        if self.p99 < self.p50:
            raise ValueError("p99 is less than p50")

    def at(self, share: float) -> float:
        """The time that so large a share of all draws does not exceed."""
        deviations = NormalDist().inv_cdf(min(max(share, 1e-9), 1 - 1e-9))
        return self.p50 * math.exp(math.log(self.p99 / self.p50) / _Z99 * deviations)


Delay = Seconds | Uniform | Lognormal


class Rate(Strict, frozen=True):
    """A token bucket. What it has no token for is refused at once, and not accepted."""

    per_second: Annotated[float, msgspec.Meta(gt=0)]
    burst: Annotated[float, msgspec.Meta(ge=1)] | None = None  # A tenth of a second's worth.
    code: int = 429  # Or 400, with {code: 130429}, as WhatsApp's Cloud API has it.
    retry_after: Seconds | None = None  # None: the answer does not say.

    def __post_init__(self) -> None:
        if self.code not in (400, 429):
            raise ValueError("a rate's code is 429 or 400")

    @property
    def most(self) -> float:
        """Tokens that the bucket holds."""
        return self.burst or max(1.0, self.per_second / 10)


class Callbacks(Strict, frozen=True):
    """What is told of accepted messages afterwards, in requests signed as docs/sandbox.md says."""

    url: str  # `{account}` in it stands for the message's own `account`.
    secret: str = ""  # Signs; empty: the key that the message came with.
    delay: Delay = 0.1  # Before each status.
    sent: Share = 1.0
    delivered: Share = 1.0
    read: Share = 0.0  # Of what is delivered.
    failed: Share = 0.0  # Accepted, and then not delivered.
    opted_out: Share = 0.0  # Of what failed: the recipient wants no more.
    missing: Share = 0.0  # Of all statuses: never told.
    doubled: Share = 0.0  # Of all statuses: told twice.
    reversed: Share = 0.0  # Of all messages: the last status comes first.
    early: Share = 0.0  # Of all messages: the first status comes before the answer.


class Profile(Strict, frozen=True):
    """One sender's. By itself it accepts everything after 50 ms."""

    key: str | None = None  # What the bearer must say; None: anything not beginning with `wrong`.
    seed: str = ""
    latency: Delay = 0.05  # From the acceptance to the answer.
    rate: Rate | None = None
    slots: Annotated[int, msgspec.Meta(ge=1)] | None = None  # At once; further ones queue.
    idempotent: bool = True  # A key that was accepted is not accepted again: same key, same id.
    faults: dict[str, Share] = {}  # One of campaigns.sandbox.faults → its share of all tries.
    refused: frozenset[str] = frozenset()  # Phones that there are not.
    opted_out: frozenset[str] = frozenset()  # Phones that want no messages.
    refused_share: Share = 0.0  # Of all phones, each for good.
    opted_out_share: Share = 0.0
    # Requests since the profile was set after which the key is not taken any more.
    unauthorized_after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    callbacks: Callbacks | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.faults) - set(FAULTS):
            raise ValueError(f"no such faults: {', '.join(sorted(unknown))}")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("the shares of the faults exceed 1 in all")

    def allows(self, key: str) -> bool:
        """Whether this bearer's key is taken."""
        if self.key is None:
            return bool(key) and not key.startswith("wrong")
        return key == self.key

    def fault(self, key: str, attempt: int) -> str | None:
        """What goes wrong with this try of a message, if anything does."""
        if not self.faults:
            return None
        return _chosen(self.faults.items(), drawn(self.seed, key, attempt, "fault"))

    def refuses(self, phone: str) -> str | None:
        """Which fault a phone has for good, if any."""
        if phone in self.refused:
            return "refused"
        if phone in self.opted_out:
            return "opted_out"
        if not self.refused_share and not self.opted_out_share:
            return None
        shares = (("refused", self.refused_share), ("opted_out", self.opted_out_share))
        return _chosen(shares, drawn(self.seed, phone, 0, "phone"))

    def takes(self, key: str, attempt: int) -> float:
        """Seconds from a try's acceptance to its answer."""
        if isinstance(self.latency, float):
            return self.latency
        return seconds(self.latency, drawn(self.seed, key, attempt, "latency"))


def seconds(delay: Delay, share: float) -> float:
    """One time of a delay, by a number drawn evenly from 0 to 1."""
    return delay.at(share) if isinstance(delay, Uniform | Lognormal) else float(delay)


def drawn(seed: str, key: str, attempt: int, what: str) -> float:
    """A number from 0 to 1, the same for the same arguments at any time and in any process."""
    text = f"{seed}|{key}|{attempt}|{what}".encode()
    return int.from_bytes(blake2b(text, digest_size=7).digest()) / 2**56


def _chosen(shares: Iterable[tuple[str, float]], number: float) -> str | None:
    for name, share in shares:
        number -= share
        if number < 0:
            return name
    return None
