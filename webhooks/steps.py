"""The step of a delivery: one signed POST, and what its answer means.

The claim carries all that a try needs: this module asks no database, and writes nothing.
"""

import time
from email.utils import parsedate_to_datetime
from typing import Any

from django.conf import settings

from jobs.outcomes import Exchange, Fail, Outcome, Retry, Snooze, Succeeded, Throttled
from jobs.retry import LONGEST_RETRY_AFTER
from jobs.steps import Claim
from webhooks import http
from webhooks.answers import Answer, CallFailed
from webhooks.exchange import Request, exchange, request
from webhooks.secrets import KeyLost
from webhooks.signing import BadSecret

ASIDE = 60.0  # Seconds; by then webhooks.tending holds what a disabled endpoint's lane still has.
THROTTLED = 60.0  # Seconds that a 429 holds the lane when it does not say how long.
GONE = 3600.0  # Seconds that a 410 holds the lane: by then its notice has disabled the endpoint.
SHORTEST_THROTTLE = 1.0  # "Retry-After: 0" costs no attempt: without a floor it would go on so.
MARGIN = 2.0  # Seconds before the queue's deadline by which the call must have ended.


async def deliver(claim: Claim) -> Outcome:
    """Tell an endpoint of an event, once."""
    data = claim.data
    if data["disabled"]:
        # Not sent, and not lost: an endpoint that was disabled just now has its deliveries held.
        return Snooze(ASIDE, "the endpoint is disabled")
    if data["url"] is None:
        return Fail("its endpoint is gone", healthy=True)
    if data["payload"] is None:
        return Fail("its event's payload is no longer kept", healthy=True)
    try:
        sent = request(data, now=time.time())
    except (KeyLost, BadSecret) as error:
        return Retry(f"it cannot be signed: {error or type(error).__name__}", healthy=True)
    try:
        answer = await http.post(
            url=sent.url,
            body=sent.body,
            headers=sent.headers,
            timeout=_timeout(claim),
            connect_timeout=settings.SLIPWAY["WEBHOOKS"]["connect_timeout"],
        )
    except CallFailed as failed:
        return _unanswered(failed, sent)
    return judged(answer, exchange(sent, answer), now=time.time())


def judged(answer: Answer, exchanged: Exchange, *, now: float) -> Outcome:
    """What an answer that came at `now` means: only 2xx is success.

    Most other 4xx are mistakes that get mended (a route that is deployed tomorrow, a rotated
    secret): they have their retries, like a 5xx.
    """
    status = answer.status
    if answer.ok:
        return Succeeded(exchanged)
    error = f"HTTP {status}"
    if 300 <= status < 400:
        return Retry(f"{error}: redirects are not followed", exchange=exchanged)
    if status == 410:
        # One request says it for all: the rest is held by the lane, and then by the endpoint.
        return Fail(f"{error}: the endpoint is gone", exchanged, notice="gone", shuts=GONE)
    after = retry_after(answer.headers.get("retry-after", ""), now=now)
    if status == 429:
        wait = THROTTLED if after is None else max(after, SHORTEST_THROTTLE)
        return Throttled(wait, f"{error}: too many requests", exchange=exchanged)
    if status == 408 or status >= 500:
        return Retry(error, after=after, exchange=exchanged)
    return Retry(error, exchange=exchanged)


def retry_after(value: str, *, now: float) -> float | None:
    """The seconds that a Retry-After asks for, from 0 to a day; None when it asks for nothing.

    RFC 9110, 10.2.3: a number of seconds, or a date.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _unanswered(failed: CallFailed, sent: Request) -> Retry:
    """No whole answer, for whatever reason, is a try that failed: what is wrong may be mended.

    A name that leads to a forbidden address is among them: often a mistake in somebody's DNS.
    """
    exchanged = exchange(sent, failed.answer)
    return Retry(f"{failed.kind}: {failed}", exchange=exchanged)


def _timeout(claim: Claim) -> float:
    """Seconds in all. The queue's deadline is behind it, for what does not heed this one."""
    own: Any = claim.data["timeout"]
    wanted = settings.SLIPWAY["WEBHOOKS"]["timeout"] if own is None else own
    left = claim.deadline - time.monotonic() - MARGIN
    return max(0.1, min(float(wanted), left))
