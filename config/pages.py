"""What comes after this middleware is for pages: cookies, forms, messages, the console.

Callers of the API show a key with each call and have no session; running all of that for them was a
tenth of what taking a sign-up in cost.
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from config.problems import API_PATH

GetResponse = Callable[[HttpRequest], HttpResponseBase]


class PagesOnlyMiddleware:
    """Lets requests under /v1/ go past the middleware below it in settings.MIDDLEWARE."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._view = _innermost(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path.startswith(API_PATH):
            return self.get_response(request)
        response = self._view(request)
        # What the others would have added, and the API's callers want too.
        response.headers.setdefault("X-Frame-Options", settings.X_FRAME_OPTIONS)
        if not response.streaming:
            length = len(response.content)  # type: ignore[attr-defined]
            response.headers.setdefault("Content-Length", str(length))
        return response


def _innermost(get_response: Any) -> GetResponse:
    """The end of a chain of middleware: the handler's own, which resolves and calls the view."""
    while (inner := getattr(get_response, "get_response", None)) is not None:
        get_response = inner
    view: GetResponse = get_response
    return view
