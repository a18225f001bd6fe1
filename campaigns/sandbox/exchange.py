"""One sender's traffic, and one request of it: how a message is accepted, and how it is not."""

import asyncio
import socket
import struct
import time
from array import array
from collections import Counter, defaultdict
from typing import Any, NoReturn

import msgspec
from aiohttp import web

from campaigns.sandbox.callbacks import Outbox
from campaigns.sandbox.faults import FAULTS, error, said
from campaigns.sandbox.ledger import Acceptance, Ledger, most_in_a_second
from campaigns.sandbox.profile import Profile, Rate

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST, and nothing is lingered for.


class Message(msgspec.Struct, frozen=True):
    """What is posted. What the sandbox does not read may be anything."""

    sender: str = msgspec.field(name="from")
    to: str
    callback_data: str = ""
    account: str = ""  # Ours of whoever sends, for the address of its callbacks.
    header: dict[str, str] = {}  # What the template's variables say: of its header,
    buttons: dict[str, str] = {}  # and of its URL buttons, by index.


class Bucket:
    """A token bucket, full at first."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._tokens = rate.most
        self._at = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        gained = (now - self._at) * self._rate.per_second
        self._tokens, self._at = min(self._rate.most, self._tokens + gained), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Traffic:
    """One sender's: its profile, and what came since it was last forgotten."""

    def __init__(self, profile: Profile) -> None:
        self.tries: defaultdict[str, int] = defaultdict(int)  # Key → how often it came.
        self.came: array[float] = array("d")  # Seconds since 1970 of each request.
        self.answers: Counter[str] = Counter()  # Status, fault or `lost` → how often.
        self.in_flight = self.in_flight_most = 0
        self.set(profile)

    def set(self, profile: Profile) -> None:
        """Go by another profile from now on; what is under way keeps its slots of before."""
        self.profile = profile
        self.since = 0  # Requests since then.
        self.bucket = Bucket(profile.rate) if profile.rate else None
        self.slots = asyncio.Semaphore(profile.slots) if profile.slots else None

    def arrived(self, key: str) -> int:
        """Count a request; the number of this key's try."""
        self.came.append(time.time())
        self.since += 1
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight)
        self.tries[key] += 1
        return self.tries[key]

    def summary(self) -> dict[str, Any]:
        return {
            "requests": len(self.came),
            "requests_most_in_a_second": most_in_a_second(self.came),
            "in_flight": self.in_flight,
            "in_flight_most": self.in_flight_most,
            "throttled": self.answers["throttled"],
            "answers": self.answers,
        }


class Exchange:
    """One request and what may become of it; `faults` say what does."""

    def __init__(
        self,
        request: web.BaseRequest,
        message: Message,
        traffic: Traffic,
        *,
        bearer: str,
        ledger: Ledger,
        outbox: Outbox,
    ) -> None:
        self.message = message
        self._request = request
        self._traffic = traffic
        self._profile = traffic.profile
        self._bearer = bearer
        self._ledger = ledger
        self._outbox = outbox
        self._key = request.headers.get("Idempotency-Key") or message.callback_data

    async def answer(self) -> web.Response:
        """Do what the sender's profile says, and count it."""
        traffic = self._traffic
        self._attempt = traffic.arrived(self._key)
        what = "lost"  # Unless something is answered.
        try:
            response, what = await self._answered()
            return response
        finally:
            traffic.in_flight -= 1
            traffic.answers[what] += 1

    async def _answered(self) -> tuple[web.Response, str]:
        profile, traffic = self._profile, self._traffic
        late = profile.unauthorized_after
        if not profile.allows(self._bearer) or (late is not None and traffic.since > late):
            return await FAULTS["unauthorized"](self), "unauthorized"
        if traffic.bucket is not None and not traffic.bucket.take():
            return _throttled(profile.rate), "throttled"
        name = profile.refuses(self.message.to) or profile.fault(self._key, self._attempt)
        if name is not None:
            return await FAULTS[name](self), name
        return said(200, {"id": await self.accept(), "status": "accepted"}), "accepted"

    async def accept(self) -> str:
        """Wait for a slot, write the message down, and take as long as the profile says: its id."""
        slots = self._traffic.slots
        if slots is None:
            return await self._accepted()
        async with slots:
            return await self._accepted()

    async def _accepted(self) -> str:
        known = self._ledger.of(self.message.sender).ids.get(self._key)
        if known is None or not self._profile.idempotent:
            entry = self._ledger.accept(
                sender=self.message.sender,
                key=self._key,
                phone=self.message.to,
                header=self.message.header,
                buttons=self.message.buttons,
            )
            known = entry.id
            await self._announce(entry)
        await self.work()
        return known

    async def work(self) -> None:
        """Take as long as the profile says."""
        await asyncio.sleep(self._profile.takes(self._key, self._attempt))

    async def _announce(self, entry: Acceptance) -> None:
        if self._profile.callbacks is None:
            return
        early = self._outbox.plan(
            self._profile,
            entry,
            {"callback_data": self.message.callback_data},
            account=self.message.account,
            key=self._bearer,
        )
        if early is not None:
            await asyncio.wait({early}, timeout=5)

    # What faults do.

    async def never(self) -> NoReturn:
        """Say nothing until the client goes."""
        await asyncio.Event().wait()
        raise asyncio.CancelledError

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def write(self, data: bytes) -> None:
        """Past the server, which would write a proper answer."""
        if self._request.transport is None:
            raise asyncio.CancelledError
        self._request.transport.write(data)

    def end(self) -> NoReturn:
        """Close the connection after what was written."""
        raise asyncio.CancelledError

    def reset(self) -> NoReturn:
        """Close the connection with RST."""
        transport = self._request.transport
        if transport is not None:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        raise asyncio.CancelledError


def _throttled(rate: Rate | None) -> web.Response:
    after = None if rate is None else rate.retry_after
    headers = {} if after is None else {"Retry-After": f"{after:g}"}
    if rate is not None and rate.code == 400:
        return error(400, 130429, "Rate limit hit.", **headers)
    return error(429, "too_many_requests", "Too many requests.", **headers)
