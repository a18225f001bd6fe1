"""What is believed of a forwarded request."""

from django.http import HttpResponse
from django.test import RequestFactory

from config.proxies import ProxyMiddleware


def is_secure(settings, *, sender: str) -> bool:
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    seen: list[bool] = []

    def view(request):
        seen.append(request.is_secure())
        return HttpResponse()

    ProxyMiddleware(view)(
        RequestFactory().get("/", REMOTE_ADDR=sender, headers={"X-Forwarded-Proto": "https"})
    )
    return seen[0]


def test_a_trusted_proxy_says_whether_the_client_came_by_https(settings):
    assert is_secure(settings, sender="10.1.2.3")


def test_a_stranger_is_not_on_https_because_it_says_so(settings):
    assert not is_secure(settings, sender="203.0.113.7")
