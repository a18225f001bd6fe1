"""The second factor: enrolled once, asked at each sign-in where settings.SECOND_FACTOR says so.

Codes are RFC 6238's (SHA-1, 30 s, six digits: what every authenticator knows). The secret lies
encrypted, the recovery codes as hashes; each code opens once.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import segno
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.db import IntegrityError, transaction
from django_otp.oath import TOTP

from console.models import SecondFactor
from tenants import audit
from tenants.models import User
from webhooks.secrets import KeyLost, decrypt, encrypt

OPERATOR = "operator"
RECOVERY_CODES = 10
_TOLERANCE = 1  # Steps of 30 s, either way: clocks differ, and people type slowly.
_COUNTED = ["throttling_failure_timestamp", "throttling_failure_count"]
_DRAFT = "console_second_factor"  # Where a session keeps the secret that it sets up.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # None that is taken for another.


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A new factor, and the recovery codes that are shown once."""

    factor: SecondFactor
    codes: list[str]


def confirmed(user: User) -> SecondFactor | None:
    """The factor that the person has to show, if there is one."""
    rows = SecondFactor.objects.using(OPERATOR).filter(user_id=user.pk, confirmed=True)
    factor: SecondFactor | None = rows.first()
    return factor


def draft(session: SessionBase) -> str:
    """The secret that this session sets up, encrypted: made at the first call, and no other's.

    It is in no row until its first code comes: whoever has the password alone, in a session of
    their own, sees another one.
    """
    secret = session.get(_DRAFT, "")
    if not secret or not _is_readable(secret):
        secret = encrypt(base64.b32encode(secrets.token_bytes(20)).decode())
        session[_DRAFT] = secret
    return str(secret)


def forget_draft(session: SessionBase) -> None:
    """Keep no secret in a session that needs none any more."""
    session.pop(_DRAFT, None)


def key(secret: str) -> str:
    """An encrypted secret in groups of four letters, for who types it."""
    plain = decrypt(secret)
    return " ".join(plain[place : place + 4] for place in range(0, len(plain), 4))


def address(user: User, secret: str) -> str:
    """What the QR code says: the otpauth URI of authenticators."""
    label = quote(f"{settings.OTP_ISSUER}:{user.email}")
    return f"otpauth://totp/{label}?secret={decrypt(secret)}&issuer={quote(settings.OTP_ISSUER)}"


def picture(text: str) -> tuple[int, str]:
    """A text's QR code as an SVG path in a square, and that square's side: a page colours it."""
    code = segno.make(text, error="m")
    side = len(code.matrix)
    steps = [
        f"M{column} {row}h1v1h-1z"
        for row, cells in enumerate(code.matrix)
        for column, dark in enumerate(cells)
        if dark
    ]
    return side, "".join(steps)


def confirm(*, user: User, secret: str, token: str) -> Enrolled | None:
    """Take the first code of a session's secret; None when it was not the right one.

    None, too, when the person has a factor by now: no second one is put in its place.
    """
    factor = SecondFactor(user_id=user.pk, name="authenticator", secret=secret, confirmed=True)
    if not _accepts(factor, token):
        return None
    codes = ["".join(secrets.choice(_LETTERS) for _ in range(10)) for _ in range(RECOVERY_CODES)]
    factor.recovery = [_digest(code) for code in codes]
    rows = SecondFactor.objects.using(OPERATOR).filter(user_id=user.pk)
    try:
        with transaction.atomic(using=OPERATOR):
            rows.filter(confirmed=False).delete()
            factor.save(using=OPERATOR, force_insert=True)
            _record(user, "operator.second_factor_enrolled")
    except IntegrityError:
        return None
    return Enrolled(factor, [f"{code[:5]}-{code[5:]}" for code in codes])


def verify(*, user: User, token: str) -> SecondFactor | None:
    """The person's factor when the code is right; each wrong one doubles how long they wait.

    What comes while they wait is not looked at, and not written down: nobody fills the audit trail.
    """
    with transaction.atomic(using=OPERATOR):
        factor = _held(user)
        if factor is None or not factor.verify_is_allowed()[0]:
            return None
        recovered = False
        if _accepts(factor, token) or (recovered := _recovers(factor, token)):
            factor.throttle_reset(commit=False)
            factor.save(update_fields=[*_COUNTED, "last_step", "recovery"])
            if recovered:
                left = {"left": len(factor.recovery)}
                _record(user, "operator.recovery_code_used", after=left)
            return factor
        factor.throttle_increment(commit=False)
        factor.save(update_fields=_COUNTED)
        _record(user, "operator.wrong_code")
    return None


def reset(*, user: User, actor: str, reason: str) -> bool:
    """Forget a person's factor, so that they enrol anew; says whether there was one."""
    with transaction.atomic(using=OPERATOR):
        gone, _ = SecondFactor.objects.using(OPERATOR).filter(user_id=user.pk).delete()
        if gone:
            _record(user, "operator.second_factor_reset", actor=actor, reason=reason)
    return bool(gone)


def note_sign_in(user: Any) -> None:
    """Write down that somebody was let in: by all that is asked of them."""
    _record(user, "operator.signed_in")


def _held(user: User) -> SecondFactor | None:
    """The row, locked: two codes at once are taken one after the other."""
    rows = SecondFactor.objects.using(OPERATOR).select_for_update()
    factor: SecondFactor | None = rows.filter(user_id=user.pk, confirmed=True).first()
    return factor


def _is_readable(secret: str) -> bool:
    try:
        decrypt(secret)
    except KeyLost:
        return False
    return True


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


def _record(user: User, action: str, *, actor: str = "", reason: str = "", **change: Any) -> None:
    audit.record(
        actor=actor or f"operator:{user.pk}",
        action=action,
        target=f"user:{user.pk}",
        reason=reason,
        using=OPERATOR,
        **change,
    )
