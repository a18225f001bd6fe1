"""The second factor: enrolled once, asked at each sign-in where settings.SECOND_FACTOR says so.

Codes are RFC 6238's (SHA-1, 30 s, six digits: what every authenticator knows). The secret lies
encrypted, the recovery codes as hashes; each code opens once.
"""

import base64
import hashlib
import hmac
import secrets
from typing import Any
from urllib.parse import quote

import segno
from django.conf import settings
from django.db import transaction
from django_otp.oath import TOTP

from console.models import SecondFactor
from tenants import audit
from tenants.models import User
from webhooks.secrets import decrypt, encrypt

OPERATOR = "operator"
RECOVERY_CODES = 10
_TOLERANCE = 1  # Steps of 30 s, either way: clocks differ, and people type slowly.
_COUNTED = ["throttling_failure_timestamp", "throttling_failure_count"]
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # None that is taken for another.


def confirmed(user: User) -> SecondFactor | None:
    """The factor that the person has to show, if there is one."""
    rows = SecondFactor.objects.using(OPERATOR).filter(user_id=user.pk, confirmed=True)
    factor: SecondFactor | None = rows.first()
    return factor


def begin(*, user: User) -> SecondFactor:
    """A factor to be confirmed, made at the first call; the same one until it is."""
    secret = encrypt(base64.b32encode(secrets.token_bytes(20)).decode())
    given = {"name": "authenticator", "secret": secret, "confirmed": False}
    factor: SecondFactor = SecondFactor.objects.using(OPERATOR).get_or_create(
        user_id=user.pk, defaults=given
    )[0]
    return factor


def key(factor: SecondFactor) -> str:
    """The secret in groups of four letters, for who types it."""
    secret = decrypt(factor.secret)
    return " ".join(secret[place : place + 4] for place in range(0, len(secret), 4))


def address(factor: SecondFactor) -> str:
    """What the QR code says: the otpauth URI of authenticators."""
    label = quote(f"{settings.OTP_ISSUER}:{factor.user.email}")
    return (
        f"otpauth://totp/{label}?secret={decrypt(factor.secret)}"
        f"&issuer={quote(settings.OTP_ISSUER)}"
    )


def picture(factor: SecondFactor) -> tuple[int, str]:
    """The QR code as an SVG path in a square, and that square's side: a page colours it."""
    code = segno.make(address(factor), error="m")
    side = len(code.matrix)
    steps = [
        f"M{column} {row}h1v1h-1z"
        for row, cells in enumerate(code.matrix)
        for column, dark in enumerate(cells)
        if dark
    ]
    return side, "".join(steps)


def confirm(*, user: User, token: str) -> list[str] | None:
    """Take the first code, and give the recovery codes; None when it was not the right one."""
    with transaction.atomic(using=OPERATOR):
        factor = _held(user, confirmed=False)
        if factor is None or not _accepts(factor, token):
            return None
        codes = [
            "".join(secrets.choice(_LETTERS) for _ in range(10)) for _ in range(RECOVERY_CODES)
        ]
        factor.confirmed = True
        factor.recovery = [_digest(code) for code in codes]
        factor.save(update_fields=["confirmed", "recovery", "last_step"])
        _record(user, "operator.second_factor_enrolled")
    return [f"{code[:5]}-{code[5:]}" for code in codes]


def verify(*, user: User, token: str) -> SecondFactor | None:
    """The person's factor when the code is right; each wrong one doubles how long they wait."""
    with transaction.atomic(using=OPERATOR):
        factor = _held(user, confirmed=True)
        if factor is None or not factor.verify_is_allowed()[0]:
            return None
        if _accepts(factor, token) or _recovers(factor, token):
            factor.throttle_reset(commit=False)
            factor.save(update_fields=[*_COUNTED, "last_step", "recovery"])
            return factor
        factor.throttle_increment(commit=False)
        factor.save(update_fields=_COUNTED)
    return None


def reset(*, user: User, actor: str, reason: str) -> bool:
    """Forget a person's factor, so that they enrol anew; says whether there was one."""
    with transaction.atomic(using=OPERATOR):
        gone, _ = SecondFactor.objects.using(OPERATOR).filter(user_id=user.pk).delete()
        if gone:
            _record(user, "operator.second_factor_reset", actor=actor, reason=reason)
    return bool(gone)


def note_sign_in(user: Any) -> None:
    """Write down that somebody's password was right."""
    _record(user, "operator.signed_in")


def _held(user: User, *, confirmed: bool) -> SecondFactor | None:
    """The row, locked: two codes at once are taken one after the other."""
    rows = SecondFactor.objects.using(OPERATOR).select_for_update()
    factor: SecondFactor | None = rows.filter(user_id=user.pk, confirmed=confirmed).first()
    return factor


def _accepts(factor: SecondFactor, token: str) -> bool:
    digits = "".join(token.split())
    if len(digits) != 6 or not digits.isascii() or not digits.isdigit():
        return False
    code = TOTP(base64.b32decode(decrypt(factor.secret)))
    if not code.verify(int(digits), tolerance=_TOLERANCE, min_t=factor.last_step + 1):
        return False
    factor.last_step = code.t()
    return True


def _recovers(factor: SecondFactor, token: str) -> bool:
    given = _digest("".join(token.lower().replace("-", "").split()))
    left = [each for each in factor.recovery if not hmac.compare_digest(each, given)]
    taken = len(left) < len(factor.recovery)
    factor.recovery = left
    return taken


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _record(user: User, action: str, *, actor: str = "", reason: str = "") -> None:
    audit.record(
        actor=actor or f"operator:{user.pk}",
        action=action,
        target=f"user:{user.pk}",
        reason=reason,
        using=OPERATOR,
    )
