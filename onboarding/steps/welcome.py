"""The owner's welcome mail, with the link that activates the account."""

import hashlib
import smtplib
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.db import connection
from django.template.loader import render_to_string
from django.utils import timezone

from jobs.services import enqueue
from onboarding.ledger import Resource, let_go
from onboarding.models import WelcomeMail
from onboarding.steps.step import Context, Step
from tenants import activation, hosts
from tenants.models import Membership, User

LATER = timedelta(days=1)  # One mail an address a day.


class Welcome(Step):
    """One mail to the owner, whoever signs the address up how often: one an address a day.

    Read by the owner, whose click tenants.activation answers. Its Message-ID is made from the
    request id; it is sent a second time when a drainer died in mid-send, and never a third.
    """

    name = "welcome"
    outside = True
    observable = False

    def observe(self, ctx: Context) -> Resource | None:
        return None  # Nobody can look into the owner's mailbox: WelcomeMail counts instead.

    def apply(self, ctx: Context) -> Resource:
        verdict = send(ctx)
        if verdict == "later":
            _send_tomorrow(ctx)
        return Resource(_message_id(_first(ctx)), {"mail": verdict})

    def undo(self, ctx: Context, recorded: Resource | None) -> None:
        """A mail cannot be called back; its link is dead once the tenant is gone."""
        WelcomeMail.objects.filter(tenant_id=ctx.tenant_id).delete()


def send(ctx: Context, *, mail: UUID | None = None) -> str:
    """Send the mail, unless it was; says what became of it: sent, later or enough.

    `mail` is the id of one that was asked for again; without, it is the tenant's first.
    The connection is opened before the sending is counted: a server that is away costs no try.
    """
    mail = mail or _first(ctx)
    message = _compose(ctx, mail)
    let_go()
    message.connection.open()
    try:
        verdict = _begin(ctx, mail)
        if verdict == "send":
            _hand_over(mail, message)
            return "sent"
        return verdict
    finally:
        message.connection.close()


def digest(email: str) -> bytes:
    """What is kept of an address that got a mail."""
    return hashlib.sha256(email.lower().encode()).digest()


def _first(ctx: Context) -> UUID:
    """The id of the tenant's first mail."""
    return ctx.named("welcome")


def _message_id(mail: UUID) -> str:
    """The same for each sending, so that the owner's mail server may drop the second."""
    return f"<{mail}@{settings.TENANT_DOMAIN}>"


def _compose(ctx: Context, mail: UUID) -> Any:
    """The mail, from templates that a project may override."""
    owner = Membership.objects.get(tenant_id=ctx.tenant_id, role=Membership.Role.OWNER)
    words = {
        "tenant_name": ctx.tenant_name,
        "tenant_url": hosts.tenant_url(ctx.slug),
        "activation_url": _link(owner.user_id, ctx.tenant_id),
        "hours": activation.LINK_SECONDS // 3600,
    }
    message = EmailMultiAlternatives(
        subject=render_to_string("onboarding/welcome_subject.txt", words).strip(),
        body=render_to_string("onboarding/welcome.txt", words),
        to=[ctx.email],
        # Auto-Submitted (RFC 3834): a holiday reply to this mail helps nobody.
        headers={"Message-ID": _message_id(mail), "Auto-Submitted": "auto-generated"},
        connection=get_connection(),
    )
    message.attach_alternative(render_to_string("onboarding/welcome.html", words), "text/html")
    return message


def _link(user_id: UUID, tenant_id: int) -> str:
    """The link; "" for an operator of the platform, whom it would lead nowhere."""
    if not User.objects.filter(pk=user_id).exists():  # The app role sees none of them.
        return ""
    return activation.url(user_id=user_id, tenant_id=tenant_id)


def _begin(ctx: Context, mail: UUID) -> str:
    """Count the sending before it is done; gives the connection back."""
    with connection.cursor() as cursor:
        cursor.execute("select slipway.begin_welcome(%s, %s)", [mail, digest(ctx.email)])
        verdict = str(cursor.fetchone()[0])
    let_go()
    return verdict


def _hand_over(mail: UUID, message: Any) -> None:
    """Send; a sending that surely did not happen is not counted."""
    handed_over = _watch_data(message.connection)
    try:
        message.send()
    except (smtplib.SMTPException, OSError) as error:
        if not handed_over() or isinstance(error, smtplib.SMTPDataError):
            _take_back(mail)
        raise


def _watch_data(backend: Any) -> Callable[[], bool]:
    """Tells whether the text went to the server: then only its answer says what came of it."""
    server = getattr(backend, "connection", None)
    told: list[bool] = []
    if isinstance(server, smtplib.SMTP):
        data = server.data

        def watched(message: Any) -> Any:
            told.append(True)
            return data(message)

        server.data = watched  # type: ignore[method-assign,assignment]
    return lambda: bool(told)


def _take_back(mail: UUID) -> None:
    WelcomeMail.objects.filter(pk=mail, sends=1).delete()
    WelcomeMail.objects.filter(pk=mail, sends=2).update(sends=1)


def _send_tomorrow(ctx: Context) -> None:
    enqueue(
        "onboarding.welcome",
        tenant_id=ctx.tenant_id,
        args={"request_id": str(ctx.root)},
        due_at=timezone.now() + LATER,
    )
