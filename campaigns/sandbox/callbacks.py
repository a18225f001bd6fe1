"""Status callbacks: what became of accepted messages, told later, and not always well.

A callback is a POST of {"sender", "statuses": [{"id", "callback_data", "status", "at", "phone"}]};
`Sandbox-Signature` is `sha256=` and the HMAC-SHA256 of the body in hexadecimal.
"""

import asyncio
import hmac
import re
import time
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

import aiohttp
import orjson

from campaigns.sandbox.ledger import Acceptance
from campaigns.sandbox.profile import Callbacks, Profile, drawn, seconds

SIGNATURE = "Sandbox-Signature"
TOGETHER = 0.02  # Seconds in which statuses for one address wait for each other.
MOST = 100  # Statuses of one request.
TRIES, FIRST_PAUSE = 4, 0.25  # A callback that is not taken is sent again, later and later.
TIMEOUT = aiohttp.ClientTimeout(total=10)
_ACCOUNT = re.compile(r"[A-Za-z0-9_-]{1,64}")

Address = tuple[str, str, str]  # URL, secret, sender.


def planned(profile: Profile, key: str) -> list[tuple[float, str]]:
    """Which statuses a message comes to, each with the seconds after its acceptance."""
    said = profile.callbacks
    if said is None:
        return []

    def happens(what: str, share: float) -> bool:
        return share > 0 and drawn(profile.seed, key, 0, what) < share

    plan, at = [], 0.0
    for status in _statuses(said, happens("failed", said.failed), happens("read", said.read)):
        at += seconds(said.delay, drawn(profile.seed, key, 0, f"delay of {status}"))
        if happens(f"missing {status}", said.missing):
            continue
        plan += [(at, status)] * (2 if happens(f"doubled {status}", said.doubled) else 1)
    if happens("reversed", said.reversed):
        times = [when for when, _ in plan]
        plan = [(when, status) for when, (_, status) in zip(times, reversed(plan), strict=True)]
    return plan


def _statuses(said: Callbacks, failed: bool, read: bool) -> list[str]:
    """In the order of a provider that does nothing wrong."""
    statuses = ["sent"] if said.sent else []
    if failed:
        return [*statuses, "failed"]
    if said.delivered:
        statuses.append("delivered")
        if read:
            statuses.append("read")
    return statuses


def signature(secret: str, body: bytes) -> str:
    """What the signature's header says of a body."""
    return "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()


class Outbox:
    """Sends callbacks when their time has come, several together."""

    def __init__(self) -> None:
        self._waiting: defaultdict[Address, list[dict[str, Any]]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self.taken: dict[str, int] = defaultdict(int)  # Sender → statuses that were taken.
        self.given_up: dict[str, int] = defaultdict(int)

    def plan(
        self, profile: Profile, entry: Acceptance, told: dict[str, Any], *, account: str, key: str
    ) -> "asyncio.Task[None] | None":
        """Have a message's statuses told; what is returned is to be waited for before the answer.

        `told` is said with each status, and `key` signs where the profile names no secret.
        """
        said, plan = profile.callbacks, planned(profile, entry.key)
        if said is None or not plan:
            return None
        address = _url(said, account), said.secret or key, entry.sender
        lines = [(delay, _line(profile, said, entry, status) | told) for delay, status in plan]
        early = None
        if drawn(profile.seed, entry.key, 0, "early") < said.early:
            _, first = lines.pop(0)
            early = self._begin(self._send(address, [first | {"at": time.time()}]))
        loop = asyncio.get_running_loop()
        for delay, line in lines:
            loop.call_later(delay, self._add, address, line)
        return early

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _add(self, address: Address, line: dict[str, Any]) -> None:
        waiting = self._waiting[address]
        waiting.append(line | {"at": time.time()})
        if len(waiting) == 1:
            self._begin(self._flush(address))

    def _begin(self, sending: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _flush(self, address: Address) -> None:
        await asyncio.sleep(TOGETHER)
        waiting = self._waiting.pop(address, [])
        for start in range(0, len(waiting), MOST):
            await self._send(address, waiting[start : start + MOST])

    async def _send(self, address: Address, statuses: list[dict[str, Any]]) -> None:
        url, secret, sender = address
        body = orjson.dumps({"sender": sender, "statuses": statuses})
        for number in range(TRIES):
            if await self._taken(url, secret, body):
                self.taken[sender] += len(statuses)
                return
            await asyncio.sleep(FIRST_PAUSE * 2**number)
        self.given_up[sender] += len(statuses)

    async def _taken(self, url: str, secret: str, body: bytes) -> bool:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        headers = {"Content-Type": "application/json", SIGNATURE: signature(secret, body)}
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return answer.status < 300
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False


def _url(said: Callbacks, account: str) -> str:
    """The address with the message's account in it, where that can be a part of a path."""
    return said.url.replace("{account}", account if _ACCOUNT.fullmatch(account) else "")


def _line(profile: Profile, said: Callbacks, entry: Acceptance, status: str) -> dict[str, Any]:
    line = {"id": entry.id, "phone": entry.phone, "status": status}
    if status == "failed":
        left = drawn(profile.seed, entry.key, 0, "opted out") < said.opted_out
        line["error"] = "opted_out" if left else "undeliverable"
    return line
