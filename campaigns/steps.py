"""The step of a message: one request to its provider, and what the answer means.

The claim carries all that a try needs but one: whether its customer still wants it, which the gate
knows (campaigns.gate). Nothing is written here.

A message must not be sent twice by accident. So whatever goes wrong before the request is begun is
a retry; from then on, what has no usable answer is `unknown`, unless the provider sends the same
message once however often it is asked. A message that an earlier try has perhaps sent carries that
doubt with it (`last_error` begins with DOUBT): if no later try is accepted, it ends as unknown and
not as failed.
"""

import time
from dataclasses import replace
from typing import cast

import structlog

from campaigns import gate
from campaigns.providers import (
    Accepted,
    AccountRefused,
    Ambiguous,
    Later,
    PairLimit,
    Refused,
    Slower,
    UnknownProvider,
    Verdict,
    masked,
)
from campaigns.sending import Sending, account_of, sending
from campaigns.variables import CannotRender
from jobs.outcomes import (
    Exchange,
    Fail,
    Outcome,
    Retry,
    Snooze,
    Succeeded,
    Throttled,
    Unknown,
    Withdrawn,
)
from jobs.registry import queue
from jobs.steps import Claim
from webhooks import http
from webhooks.answers import Answer, CallFailed
from webhooks.secrets import KeyLost

log = structlog.get_logger(__name__)

DOUBT = "perhaps sent: "  # Message.carried knows it as `doubtful`.
ASIDE = 60.0  # Seconds until a message is looked at again that came too late for a pause.
SHUT = 5.0  # Seconds until the gate is asked again.
UNREADABLE = 60.0  # Seconds in which nothing of an account is tried whose key or code is missing.
REFUSED = 3600.0  # Seconds that a refused account holds: by then its notice has paused it.
TIMEOUT = 10.0  # Seconds for one request in all, where the account's options say no other.
CONNECT_TIMEOUT = 3.0  # Of these, for the name, the connection and TLS.
MARGIN = 2.0  # Seconds before the queue's deadline by which the request must have ended.
# Of the queue's 20 seconds, those that must be left to begin: ten after its claim a drainer that
# was frozen may have been taken for dead, and its message for unknown (jobs.engine.beat.FRESH).
LEAST = 10.0
LONGEST_PAIR = 3600.0  # Seconds that one recipient's limit is waited for.


async def send(claim: Claim) -> Outcome:
    """Send a message, once."""
    outcome = _aside(claim) or _moved(claim) or await _try(claim)
    return _doubting(outcome, claim) if claim.data["doubtful"] else outcome


def _aside(claim: Claim) -> Outcome | None:
    """What becomes of a message that is not to be sent, by what came with the claim."""
    data = claim.data
    if not data["phone"] or not (data["test"] or data["customer_id"]):
        return Withdrawn("its customer was erased")
    if data["cancelled"]:
        return _objected(gate.CANCELLED)
    if data["expired"]:
        return _objected(gate.EXPIRED)
    if data["account_status"] in {None, "deleted"}:
        return _objected(gate.ACCOUNT_GONE)
    # Claimed in the very moment of the pause: else their lanes are shut.
    if data["stopped"]:
        return _objected(gate.CAMPAIGN_PAUSED)
    if data["account_status"] != "active":
        return _objected(gate.ACCOUNT_PAUSED)
    return None


def _moved(claim: Claim) -> Outcome | None:
    """What the account's former provider has perhaps sent, this one would send a second time.

    Not when somebody had it sent again in spite of the doubt: then its tries begin anew.
    """
    if claim.data["moved"] and _nth(claim) > 1:
        return Unknown(f"{DOUBT}its account has been led elsewhere since")
    return None


async def _try(claim: Claim) -> Outcome:
    try:
        made = sending(claim, *account_of(claim.data))
    except (KeyLost, UnknownProvider) as error:
        # Nobody's fault but the platform's: nothing is spent until it is mended.
        reason = f"the account cannot be used: {type(error).__name__}"
        return Throttled(UNREADABLE, reason, pace=False)
    except CannotRender as error:
        return Fail(str(error), healthy=True)
    except Exception as error:
        # What it says may quote the customer.
        log.warning("message_not_made", error=type(error).__name__)
        return Retry(f"it cannot be made: {type(error).__name__}", healthy=True)
    try:
        objection = await gate.objection(
            tenant=claim.tenant,
            campaign_id=claim.data["campaign_id"],
            customer_id=None if claim.data["test"] else claim.data["customer_id"],
            phone=claim.data["phone"],
        )
    except gate.GateShut as error:
        return Snooze(SHUT, f"nobody can tell whether it is wanted: {error}")
    return _objected(objection) if objection else await _post(claim, made)


def _objected(objection: str) -> Outcome:
    """What becomes of a message that is not to be sent, or not now."""
    match objection:
        case gate.CAMPAIGN_PAUSED | gate.ACCOUNT_PAUSED:
            return Snooze(ASIDE, objection)
        case gate.ACCOUNT_GONE:
            return Fail(objection, healthy=True)
        case _:
            return Withdrawn(objection)


async def _post(claim: Claim, made: Sending) -> Outcome:
    left = claim.deadline - time.monotonic()
    if left < LEAST:
        return Snooze(0.0, "it was claimed too long ago")
    wanted = float(made.account.options.get("timeout") or TIMEOUT)
    try:
        answer = await http.post(
            url=made.request.url,
            body=made.request.body,
            headers=made.request.headers,
            timeout=min(wanted, left - MARGIN),
            connect_timeout=CONNECT_TIMEOUT,
        )
    except CallFailed as failed:
        return _unanswered(failed, claim, made)
    except Exception as error:
        log.exception("message_broke_off")
        return _ambiguous(f"it broke off: {type(error).__name__}", claim, made, None)
    return _answered(answer, claim, made)


def _unanswered(failed: CallFailed, claim: Claim, made: Sending) -> Outcome:
    error = f"{failed.kind}: {failed}"
    if failed.sent:
        return _ambiguous(error, claim, made, failed.answer)
    return Retry(error, exchange=made.exchange(None))


def _answered(answer: Answer, claim: Claim, made: Sending) -> Outcome:
    exchange = made.exchange(answer)
    try:
        verdict = made.provider.judge(made.account, answer)
    except Exception:
        log.exception("answer_not_judged", provider=made.account.provider)
        verdict = Ambiguous(f"HTTP {answer.status}: its answer cannot be read")
    if isinstance(verdict, Ambiguous):
        return _ambiguous(verdict.error, claim, made, answer)
    outcome = _judged(verdict, claim, exchange)
    if claim.data["doubtful"] and isinstance(outcome, Fail) and not made.idempotent:
        # A refusal of this request says nothing of the one before.
        return Unknown(_doubtful(outcome.error), exchange, outcome.notice)
    return outcome


def _judged(verdict: Verdict, claim: Claim, exchange: Exchange) -> Outcome:
    """What a clear answer means for the message, and for its account."""
    match verdict:
        case Accepted():
            return Succeeded(exchange, patch={"provider_id": verdict.provider_id})
        case Refused():
            notice = "opted_out" if verdict.opted_out else None
            return Fail(masked(verdict.error), exchange, healthy=True, notice=notice)
        case Slower():
            return Throttled(verdict.after, verdict.reason, exchange)
        case PairLimit():
            after = min(verdict.after ** _nth(claim), LONGEST_PAIR)
            return Retry(masked(verdict.reason), after, exchange, healthy=True)
        case AccountRefused(template=True) if claim.data["test"]:
            return Fail(masked(verdict.reason), exchange, healthy=True)  # Nobody pauses a test.
        case AccountRefused(template=True):
            # The account's other campaigns go on.
            return Snooze(ASIDE, masked(verdict.reason), notice="template_refused")
        case AccountRefused():
            reason = masked(verdict.reason)
            return Throttled(REFUSED, reason, exchange, notice="account_refused", pace=False)
        case _:
            later = cast("Later", verdict)
            return Retry(masked(later.error), later.after, exchange)


def _ambiguous(error: str, claim: Claim, made: Sending, answer: Answer | None) -> Outcome:
    """Nobody can tell whether it was accepted: ask again only where that cannot send it twice."""
    error, exchange = f"{DOUBT}{masked(error)}", made.exchange(answer)
    if made.idempotent and _allowed(claim):
        return Retry(error, exchange=exchange)
    return Unknown(error, exchange)


def _doubting(outcome: Outcome, claim: Claim) -> Outcome:
    """What `outcome` means for a message that an earlier try has perhaps sent."""
    match outcome:
        case Retry() if not _allowed(claim):
            return Unknown(_doubtful(outcome.error), outcome.exchange)
        case Retry():
            return replace(outcome, error=_doubtful(outcome.error))
        case Snooze() | Throttled():
            return replace(outcome, reason=_doubtful(outcome.reason))
        case Withdrawn():
            return Unknown(_doubtful(outcome.reason))
        case Fail(exchange=None):
            return Unknown(_doubtful(outcome.error))
    return outcome


def _doubtful(said: str) -> str:
    return said if said.startswith(DOUBT) else f"{DOUBT}{said}"


def _allowed(claim: Claim) -> bool:
    """Whether it may be tried again after this."""
    return queue(claim.queue).policy(claim).allows(_nth(claim), age=0.0)


def _nth(claim: Claim) -> int:
    """Which of its tries this is, as its policy counts."""
    return claim.attempt - claim.forgiven
