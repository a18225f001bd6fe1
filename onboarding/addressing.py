"""The client of an ASGI request, by the same rules as a WSGI request's."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest

from config.proxies import client_address


def address_of(scope: Mapping[str, Any]) -> str:
    """See config.proxies.client_address."""
    request = HttpRequest()
    client = scope.get("client")
    request.META["REMOTE_ADDR"] = client[0] if client else ""
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            request.META["HTTP_X_FORWARDED_FOR"] = value.decode("latin-1")
    return client_address(request)
