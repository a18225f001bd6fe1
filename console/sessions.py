"""How long an operator stays signed in: a time from the password on, and a shorter one idle."""

from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils import timezone

_BEGUN, _SEEN = "console_begun", "console_seen"  # Seconds since 1970.
_NOTED = 60.0  # Seconds: who clicks more often writes no row each time.


def begin(session: SessionBase) -> None:
    """The password was right just now."""
    session[_BEGUN] = session[_SEEN] = _now()
    session.set_expiry(settings.CONSOLE_SESSION_AGE)


def go_on(request: HttpRequest) -> None:
    """Note that somebody is there; or sign them out, second factor and all, when it was too long.

    What a page fetches by itself says of nobody that they are there.
    """
    session, now = request.session, _now()
    begun: Any = session.setdefault(_BEGUN, now)
    seen: Any = session.setdefault(_SEEN, now)
    if now - begun >= settings.CONSOLE_SESSION_AGE or now - seen >= settings.CONSOLE_SESSION_IDLE:
        logout(request)
    elif now - seen >= _NOTED and request.headers.get("Sec-Fetch-Dest") != "empty":
        session[_SEEN] = now


def _now() -> float:
    return timezone.now().timestamp()
