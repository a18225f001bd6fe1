"""The door for synchronous code, against the same receiver. Addresses: test_ssrf.py."""

import time

import pytest

from webhooks import sync_http
from webhooks.answers import BODY_KEPT, CallFailed, Kind


def call(url, *, timeout=5.0, **options):
    return sync_http.call("POST", url, body=b"{}", headers={}, timeout=timeout, **options)


@pytest.mark.parametrize(
    ("behaviour", "port", "kind", "sent"),
    [
        ("hang", "http", Kind.DEADLINE, True),
        ("drip-headers", "http", Kind.DEADLINE, True),
        ("drip-body", "http", Kind.DEADLINE, True),
        ("endless-nothing", "deaf", Kind.DEADLINE, True),
        ("ok", "full", Kind.CONNECT_TIMEOUT, False),
        ("ok", "tls_hang", Kind.CONNECT_TIMEOUT, False),
        ("ok", "tls_self_signed", Kind.TLS, False),
        ("ok", "tls_expired", Kind.TLS, False),
        ("ok", "tls_wrong_host", Kind.TLS, False),
        ("ok", "tls_reset", Kind.RESET, False),
        ("reset", "http", Kind.RESET, True),
        ("close", "http", Kind.CLOSED, True),
        ("length-long", "http", Kind.CLOSED, True),
        ("garbage", "http", Kind.PROTOCOL, True),
        ("headers-huge", "http", Kind.HEADERS_TOO_LARGE, True),
        ("headers-many", "http", Kind.HEADERS_TOO_LARGE, True),
    ],
)
def test_each_wrong_is_told_within_the_deadline(receiver, behaviour, port, kind, sent):
    arguments = ("70000",) if behaviour == "headers-huge" else ()
    inbox = receiver.new(behaviour, *arguments, port=port)
    trusted = receiver.tls if port != "tls_self_signed" else None
    started = time.monotonic()
    with pytest.raises(CallFailed) as failed:
        call(inbox.url, timeout=0.6, connect_timeout=0.3, tls=trusted)
    assert time.monotonic() - started < 2
    assert (failed.value.kind, failed.value.sent) == (kind, sent)
    assert len(inbox.seen) <= 1


def test_it_tells_the_answer_and_keeps_no_more_than_was_asked_for(receiver):
    assert call(receiver.new(port="tls").url, tls=receiver.tls).body == "ok"
    assert call(receiver.new("gzipped").url).body == "small and honest"
    cut = call(receiver.new("body", 200_000).url)
    assert (len(cut.body), cut.truncated) == (BODY_KEPT, True)
    whole = call(receiver.new("body", 200_000).url, most=1_000_000)
    assert (len(whole.body), whole.truncated) == (200_000, False)
    for bomb in ("gzip-bomb", "deflate-bomb", "endless"):
        answer = call(receiver.new(bomb).url)
        assert (len(answer.body), answer.truncated) == (BODY_KEPT, True)
