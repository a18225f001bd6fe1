"""The job `mail.send`: one message through Django's mail."""

import smtplib
from email.utils import make_msgid
from typing import Any

from django.core.mail import EmailMultiAlternatives

from jobs.outcomes import Fail, Outcome, Retry, Succeeded
from jobs.steps import Claim

# 5xx says that it will never be taken; anything else may be better tomorrow.
PERMANENT = range(500, 600)


def send(claim: Claim) -> Outcome:
    """Send {"to": [address], "subject", "text", "html"?, "headers"?}.

    A message that is sent again has the same Message-ID, so that the receiver may drop the second.
    What was sent is taken out of the job afterwards: bodies and addresses are kept nowhere.
    """
    args = claim.data["args"]
    message = EmailMultiAlternatives(
        subject=args["subject"],
        body=args["text"],
        to=args["to"],
        headers={"Message-ID": _message_id(claim), **args.get("headers", {})},
    )
    if args.get("html"):
        message.attach_alternative(args["html"], "text/html")
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as refused:
        codes = [code for code, _ in refused.recipients.values()]
        return _refused("no recipient was taken", max(codes))
    except smtplib.SMTPResponseException as refused:
        return _refused("the mail server refused", refused.smtp_code)
    except (smtplib.SMTPException, OSError) as error:
        return Retry(f"{type(error).__name__}: {error}")
    return Succeeded(patch={"args": _kept(args)})


def _refused(what: str, code: int) -> Outcome:
    error = f"{what} ({code})"
    return Fail(error) if code in PERMANENT else Retry(error)


def _message_id(claim: Claim) -> str:
    domain = make_msgid().rpartition("@")[2].rstrip(">")
    return f"<{claim.id}@{domain}>"


def _kept(args: dict[str, Any]) -> dict[str, Any]:
    return {"sent_to": len(args["to"])}
