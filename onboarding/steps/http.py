"""Steps of the platform's own: its back end makes what only it can make.

    SLIPWAY["PROVISIONING_STEPS"] = [{"name": "billing", "url": "https://…", "secret": "whsec_…"}]

The call is a Standard Webhook: signed, and with an id that is the same on every try, so that the
back end can tell a repetition. 200 is done; 202 is under way: we ask again, less and less often,
until it answers 200 or calls POST /v1/onboard/{request_id}/steps/{name} itself.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from uuid import UUID

import orjson
import requests
from django.utils import timezone
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from config.ids import format_id
from config.spelling import seen
from jobs.outcomes import Exchange, Fail, Retry, Snooze
from onboarding.ledger import Resource
from onboarding.redaction import redact
from onboarding.steps.step import Context, NotYet, Step

TIMEOUT = (3.0, 10.0)  # Seconds to connect, and to wait for the next byte.
LONGEST = timedelta(hours=24)  # How long a back end may say 202.
_BODY_KEPT = 4096  # Bytes of an answer that an attempt keeps.
_FOR_GOOD = frozenset({400, 401, 403, 404, 410, 422})


class HttpStep(Step):
    """One signed call to the platform's back end. Its effect is the back end's to read."""

    outside = True
    observable = False

    def __init__(self, *, name: str, url: str, secret: str) -> None:
        self.name = name
        self.url = url
        self.secret = secret

    def observe(self, ctx: Context) -> Resource | None:
        return None  # The call itself asks: the back end knows its id.

    def apply(self, ctx: Context) -> Resource | NotYet:
        body = self._body(ctx, "tenant.provision")
        response = self._call(ctx.named(self.name), body)
        exchange = self._exchange(ctx, body, response)
        if response.status_code == 202:
            return self._wait(ctx)
        if 200 <= response.status_code < 300:
            return Resource(_resource_name(response), {"status": response.status_code})
        error = f"{self.name}: HTTP {response.status_code}"
        if response.status_code in _FOR_GOOD:
            return Fail(error, exchange)
        return Retry(error, after=_retry_after(response), exchange=exchange)

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        """Tell the back end, which may never have heard of it: 404 and 410 are as good as done."""
        body = self._body(ctx, "tenant.deprovision")
        response = self._call(ctx.named(f"{self.name}:undo"), body)
        if response.status_code not in {404, 410}:
            response.raise_for_status()

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raises WebhookVerificationError unless the back end signed this callback."""
        try:
            Webhook(self.secret).verify(body, dict(headers), json_parse=False)
        except (ValueError, TypeError):  # What the library trips over was not signed by anybody.
            raise WebhookVerificationError("The signature cannot be read.") from None

    def _wait(self, ctx: Context) -> NotYet:
        age = timezone.now() - ctx.created_at
        if age > LONGEST:
            return Fail(f"{self.name}: under way for more than {LONGEST}")
        return Snooze(min(300.0, max(2.0, age.total_seconds() / 4)), f"{self.name}: under way")

    def _body(self, ctx: Context, what: str) -> bytes:
        data = {
            "request_id": format_id("req", ctx.root),
            "tenant_id": format_id("tnt", ctx.tenant_uuid),
            "slug": ctx.slug,
            "name": ctx.tenant_name,
            "plan": ctx.plan,
            "email": ctx.email,
            "external_id": ctx.external_id or None,
            "metadata": dict(ctx.metadata),
        }
        return orjson.dumps({"type": what, "timestamp": ctx.created_at.isoformat(), "data": data})

    def _call(self, call_id: UUID, body: bytes) -> requests.Response:
        now = timezone.now()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Slipway",
            "webhook-id": f"msg_{call_id}",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self.secret).sign(f"msg_{call_id}", now, body.decode()),
        }
        with requests.Session() as session:
            session.trust_env = False  # No proxy, and no password, from the environment.
            return session.post(
                self.url, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False
            )

    def _exchange(self, ctx: Context, body: bytes, response: requests.Response) -> Exchange:
        """What the attempt keeps: both sides without the owner's address, signatures and secret."""
        clean = partial(redact, email=ctx.email, secret=self.secret)
        sent = orjson.loads(clean(body.decode()))
        return Exchange(
            {"method": "POST", "url": self.url, "headers": {}, "body": sent},
            {
                "status": response.status_code,
                "headers": {"Content-Type": clean(response.headers.get("Content-Type", ""))},
                # Cut afterwards: half an address would not be recognised.
                "body": clean(response.text)[:_BODY_KEPT].replace("\0", ""),
            },
        )


def _resource_name(response: requests.Response) -> str:
    """What the back end calls the thing it made, if it says so: {"resource": "cus_123"}."""
    try:
        answer = response.json()
    except ValueError:
        return ""
    name = answer.get("resource", "") if isinstance(answer, dict) else ""
    return seen(str(name))[:255]


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None
