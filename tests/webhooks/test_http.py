"""The one door to customers' URLs, against a receiver that does everything wrong."""

import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import pytest
import uvloop

from tests.conftest import ROOT, child_environment
from webhooks import http
from webhooks.answers import BODY_KEPT, HEADER_KEPT, HEADERS_KEPT
from webhooks.http import Answer, CallFailed, Client, Kind

HEADERS = {"webhook-id": "evt_1", "content-type": "application/json"}


@asynccontextmanager
async def client(**options):
    made = Client(**options)
    try:
        yield made
    finally:
        await made.close()


def post(url, *, body=b'{"a": 1}', headers=HEADERS, timeout=5.0, tls=None, **options) -> Answer:
    """One call by a client of its own."""

    async def call():
        async with client(tls=tls) as made:
            return await made.post(url=url, body=body, headers=headers, timeout=timeout, **options)

    return uvloop.run(call())


def refused(url, **options) -> CallFailed:
    with pytest.raises(CallFailed) as raised:
        post(url, **options)
    return raised.value


def in_turn(*urls, timeout=5.0, pause=0.0) -> list[Answer | CallFailed]:
    """Calls of one client, one after the other."""

    async def calls():
        came = []
        async with client() as made:
            for url in urls:
                try:
                    one = await made.post(url=url, body=b"{}", headers=HEADERS, timeout=timeout)
                    came.append(one)
                except CallFailed as error:
                    came.append(error)
                await asyncio.sleep(pause)
        return came

    return uvloop.run(calls())


# ---- The plain way ----


def test_it_sends_exactly_these_bytes_and_tells_the_answer(receiver):
    inbox = receiver.new()
    answer = post(inbox.url, body='{"é": "ü"}'.encode(), headers={**HEADERS, "X-Own": "yes"})
    assert (answer.status, answer.ok, answer.body, answer.truncated) == (200, True, "ok", False)
    assert answer.headers["content-type"] == "text/plain"
    assert answer.address == "127.0.0.1"
    assert 0 < answer.elapsed < 5
    (request,) = inbox.seen
    assert (request["method"], request["body"]) == ("POST", '{"é": "ü"}')
    assert request["headers"] == {
        "host": f"127.0.0.1:{receiver.ports['http']}",
        "user-agent": "Slipway",
        "accept": "*/*",
        "accept-encoding": "identity",
        "webhook-id": "evt_1",
        "content-type": "application/json",
        "x-own": "yes",
        "content-length": str(len('{"é": "ü"}'.encode())),
    }


def test_a_connection_is_used_again_and_again(receiver):
    inbox = receiver.new()
    assert [answer.status for answer in in_turn(*[inbox.url] * 5)] == [200] * 5
    assert len({request["connection"] for request in inbox.seen}) == 1


def test_the_module_has_a_client_for_each_loop_and_closes_it(receiver):
    inbox = receiver.new()

    async def call():
        async def one():
            await http.post(url=inbox.url, body=b"{}", headers=HEADERS, timeout=5)

        mine = http.client()
        await one()
        await asyncio.gather(one(), one())
        assert http.client() is mine
        await http.close()
        await http.close()
        assert http.client() is not mine
        await http.close()
        return mine

    first, second = uvloop.run(call()), asyncio.run(call())
    assert first is not second
    assert len(inbox.seen) == 6


def test_it_verifies_certificates_by_the_given_authority(receiver):
    inbox = receiver.new(port="tls")
    assert post(inbox.url, tls=receiver.tls).status == 200


@pytest.mark.parametrize("status", [100, 102, 103])
def test_interim_answers_are_passed_over(receiver, status):
    assert post(receiver.new("status", status, 500).url).status == 500
    assert post(receiver.new("status", status).url).status == 200


@pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 404, 410, 429, 500, 503, 599])
def test_every_status_is_an_answer_and_2xx_alone_is_ok(receiver, status):
    answer = post(receiver.new("status", status).url)
    assert (answer.status, answer.ok) == (status, status < 300)


@pytest.mark.parametrize("value", ["120", "-5", "soon", "9" * 40, "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_retry_after_is_told_as_it_came(receiver, value):
    answer = post(receiver.new("retry-after", 429, value).url)
    assert (answer.status, answer.headers["retry-after"]) == (429, value)


def test_http_1_0_is_understood(receiver):
    assert post(receiver.new("http10").url).body == "old but good"


def test_a_body_of_any_bytes_is_text_without_an_error(receiver):
    assert post(receiver.new("html").url).body == "<script>alert(1)</script>"
    assert "\ufffd" in post(receiver.new("binary").url).body


def test_a_switch_of_protocols_is_an_answer_like_another(receiver):
    assert post(receiver.new("upgrade").url).status == 101


# ---- Redirects, cookies, proxies ----


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_it_follows_no_redirect(receiver, status):
    target = receiver.new()
    answer = post(receiver.new("redirect", status, target.url).url)
    assert (answer.status, answer.ok) == (status, False)
    assert target.seen == []
    loop = receiver.new("redirect-loop", status)
    assert post(loop.url).status == status
    assert len(loop.seen) == 1


def test_it_keeps_no_cookie(receiver):
    inbox = receiver.new("cookie")
    in_turn(inbox.url, inbox.url)
    assert [request["headers"].get("cookie") for request in inbox.seen] == [None, None]


def test_no_proxy_and_no_password_comes_from_the_environment(receiver, monkeypatch, tmp_path):
    proxy, inbox = receiver.new(), receiver.new()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert post(inbox.url).status == 200
    assert len(inbox.seen) == 1
    assert "authorization" not in inbox.seen[0]["headers"]
    assert proxy.seen == []


# ---- Time ----


def within(seconds, call, *arguments, **options) -> CallFailed:
    started = time.monotonic()
    error = call(*arguments, **options)
    assert time.monotonic() - started < seconds
    return error


@pytest.mark.parametrize("behaviour", ["hang", "half-open", "drip-headers"])
def test_it_stops_what_never_answers(receiver, behaviour):
    inbox = receiver.new(behaviour)
    error = within(1.5, refused, inbox.url, timeout=0.4)
    assert error.kind == (Kind.CLOSED if behaviour == "half-open" else Kind.DEADLINE)
    assert error.sent
    assert error.answer is None
    assert len(inbox.seen) == 1


def test_interim_answers_without_end_are_cut_off(receiver):
    """They would keep the loop, which all calls share, from everything else."""
    inbox = receiver.new("interim-flood")
    error = refused(inbox.url, timeout=30)
    assert (error.kind, error.sent) == (Kind.PROTOCOL, True)
    assert str(error) == "127.0.0.1 sent more than 16 interim answers (1xx)."
    assert post(receiver.new("status", *[103] * 16, 200).url).status == 200


def test_it_stops_a_body_that_drips_and_tells_what_had_come(receiver):
    inbox = receiver.new("drip-body")
    error = within(1.5, refused, inbox.url, timeout=0.4)
    assert error.kind == Kind.DEADLINE
    assert str(error) == "127.0.0.1 did not answer in full within 0.4 s."
    assert error.answer.status == 200
    assert set(error.answer.body) == {"x"}
    assert error.answer.truncated


def test_it_stops_one_that_never_reads(receiver):
    error = within(1.5, refused, receiver.new(port="deaf").url, body=b"x" * 8_000_000, timeout=0.4)
    assert (error.kind, error.sent) == (Kind.DEADLINE, True)


def test_it_stops_one_that_never_accepts(receiver):
    error = within(1.5, refused, receiver.new(port="full").url, connect_timeout=0.3)
    assert (error.kind, error.sent) == (Kind.CONNECT_TIMEOUT, False)


def test_it_stops_a_tls_handshake_that_hangs(receiver):
    error = within(1.5, refused, receiver.new(port="tls_hang").url, connect_timeout=0.3)
    assert (error.kind, error.sent) == (Kind.CONNECT_TIMEOUT, False)


def test_a_slow_answer_within_the_deadline_is_one(receiver):
    assert post(receiver.new("slow", 0.3).url, timeout=5, connect_timeout=0.2).status == 200


def test_a_deadline_leaves_no_connection_behind(receiver):
    async def calls():
        async with client() as made:
            for behaviour in ("hang", "drip-body", "drip-headers"):
                url = receiver.new(behaviour).url
                with pytest.raises(CallFailed):
                    await made.post(url=url, body=b"", headers={}, timeout=0.1)
            fresh = receiver.new()
            await made.post(url=fresh.url, body=b"", headers={}, timeout=5)
            return fresh.seen[0]["connection"], before

    before = receiver.connections()
    uvloop.run(calls())
    assert receiver.connections() == before + 4


# ---- Size ----


def test_a_body_is_cut_and_still_an_answer(receiver):
    exact = post(receiver.new("body", BODY_KEPT).url)
    assert (len(exact.body), exact.truncated) == (BODY_KEPT, False)
    more = post(receiver.new("body", BODY_KEPT + 1).url)
    assert (len(more.body), more.truncated, more.ok) == (BODY_KEPT, True, True)


def test_an_endless_body_is_left_at_once_and_its_connection_never_used_again(receiver):
    endless, after = receiver.new("endless"), receiver.new()
    first, second = in_turn(endless.url, after.url)
    assert (first.status, first.truncated, len(first.body)) == (200, True, BODY_KEPT)
    assert first.elapsed < 2
    assert second.status == 200
    assert after.seen[0]["connection"] != endless.seen[0]["connection"]


PEAK = """
import asyncio, json, resource, sys
import django; django.setup()
from webhooks import http

async def main(urls):
    await http.post(url=urls[0], body=b"{}", headers={}, timeout=10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answers = [await http.post(url=u, body=b"{}", headers={}, timeout=10) for u in urls[1:]]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    await http.close()
    print(json.dumps({"grown": grown, "kept": [len(a.body) for a in answers],
                      "statuses": [a.status for a in answers]}))

asyncio.run(main(sys.argv[1:]))
"""


def test_a_gzip_bomb_costs_no_memory(receiver):
    urls = [
        receiver.new(*behaviour).url
        for behaviour in [("ok",), *[("gzip-bomb", 64)] * 3, ("deflate-bomb", 64)]
    ]
    told = subprocess.run(
        [sys.executable, "-c", PEAK, *urls],
        cwd=ROOT,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    result = json.loads(told.stdout)
    assert result["statuses"] == [200] * 4
    assert result["kept"] == [BODY_KEPT] * 4
    assert result["grown"] < 4096  # KiB, where one bomb unpacked has 65,536.


def test_compressed_data_that_never_comes_to_anything_is_left(receiver):
    answer = within(2, post, receiver.new("gzip-nothing").url, timeout=10)
    assert (answer.status, answer.body, answer.truncated) == (200, "", True)


def test_an_honest_compressed_body_is_read(receiver):
    for behaviour in (("gzipped",), ("deflated", "zlib"), ("deflated", "raw")):
        answer = post(receiver.new(*behaviour).url)
        assert (answer.body, answer.truncated) == ("small and honest", False)


def test_a_body_that_cannot_be_unpacked_is_still_an_answer(receiver):
    answer = post(receiver.new("gzip-broken").url)
    assert (answer.status, answer.ok, answer.truncated) == (200, True, True)


@pytest.mark.parametrize("behaviour", ["headers-huge", "headers-many", "headers-endless"])
def test_headers_have_a_bound(receiver, behaviour):
    error = within(2, refused, receiver.new(behaviour).url, timeout=10)
    assert error.kind == Kind.HEADERS_TOO_LARGE
    assert error.sent


def test_of_many_headers_some_are_kept(receiver):
    answer = post(receiver.new("headers-many", 90).url)
    assert len(answer.headers) == HEADERS_KEPT
    answer = post(receiver.new("headers-huge", 4000).url)
    assert answer.headers["x-huge"] == "h" * HEADER_KEPT


# ---- Connections that break ----


def test_a_reset_after_reading_is_told_from_one_before(receiver):
    after = receiver.new("reset")
    error = refused(after.url)
    assert (error.kind, error.sent) == (Kind.RESET, True)
    assert len(after.seen) == 1
    error = refused(receiver.new(port="tls_reset").url)
    assert (error.kind, error.sent) == (Kind.RESET, False)


def test_a_reset_before_reading_without_tls_may_have_been_read(receiver):
    # TCP tells nobody whether bytes that it took were read: the caller has to think they were.
    error = refused(receiver.new(port="reset").url)
    assert (error.kind, error.sent) == (Kind.RESET, True)


def test_a_close_without_an_answer_is_told(receiver):
    error = refused(receiver.new("close").url)
    assert (error.kind, error.sent, error.reused) == (Kind.CLOSED, True, False)
    assert str(error) == "127.0.0.1 closed the connection without an answer."


def test_a_reset_within_the_body_tells_what_had_come(receiver):
    error = refused(receiver.new("reset-in-body").url)
    assert error.kind in {Kind.RESET, Kind.CLOSED}
    assert (error.answer.status, error.answer.body) == (200, "part")


def test_a_keep_alive_connection_that_closes_under_a_request_is_not_tried_behind_our_back(receiver):
    inbox = receiver.new("trap")
    first, second = in_turn(inbox.url, inbox.url)
    assert first.status == 200
    assert (second.kind, second.sent, second.reused) == (Kind.CLOSED, True, True)
    assert len(inbox.seen) == 2
    assert inbox.seen[0]["connection"] == inbox.seen[1]["connection"]


def test_a_connection_that_was_closed_meanwhile_is_not_used(receiver):
    inbox = receiver.new("stale")
    answers = in_turn(*[inbox.url] * 3, pause=0.05)
    assert [answer.status for answer in answers] == [200] * 3
    assert len({request["connection"] for request in inbox.seen}) == 3


@pytest.mark.parametrize("behaviour", ["length-short", "second-answer"])
def test_an_answer_that_goes_on_never_reaches_the_next_call(receiver, behaviour):
    liar, after = receiver.new(behaviour), receiver.new()
    first, second = in_turn(liar.url, after.url, pause=0.05)
    if behaviour == "second-answer":
        assert (first.status, first.body) == (200, "ok")
    else:  # Bytes that are no answer spoil the one before them.
        assert (first.kind, first.sent) == (Kind.PROTOCOL, True)
    assert (second.status, second.body) == (200, "ok")
    assert liar.seen[0]["connection"] != after.seen[0]["connection"]


def test_a_body_shorter_than_announced_is_no_whole_answer(receiver):
    error = refused(receiver.new("length-long").url)
    assert error.kind == Kind.CLOSED
    assert (error.answer.status, error.answer.body) == (200, "ok")


@pytest.mark.parametrize("behaviour", ["garbage", "length-twice", "length-negative"])
def test_what_is_not_http_is_told(receiver, behaviour):
    error = refused(receiver.new(behaviour).url)
    assert (error.kind, error.sent) == (Kind.PROTOCOL, True)
    assert str(error) == "What 127.0.0.1 answered is not HTTP."


def test_a_chunk_that_is_none_ends_the_answer(receiver):
    error = refused(receiver.new("chunks-bad").url)
    assert error.kind in {Kind.PROTOCOL, Kind.CLOSED}


def test_a_refused_connection_is_told(receiver, settings, free_port):
    settings.WEBHOOK_OPEN_DESTINATIONS = [("127.0.0.1", free_port)]
    error = refused(f"http://127.0.0.1:{free_port}/")
    assert (error.kind, error.sent) == (Kind.UNREACHABLE, False)
    assert str(error) == f"127.0.0.1 refused the connection at port {free_port}."


# ---- TLS ----


@pytest.mark.parametrize(
    ("port", "why"),
    [
        ("tls_self_signed", "self-signed certificate"),
        ("tls_expired", "certificate has expired"),
        ("tls_wrong_host", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("tls", None),
    ],
)
def test_a_bad_certificate_is_refused_before_anything_is_sent(receiver, port, why):
    inbox = receiver.new(port=port)
    error = refused(inbox.url, tls=receiver.tls if why else None)
    assert (error.kind, error.sent) == (Kind.TLS, False)
    why = why or "unable to get local issuer certificate"
    assert str(error) == f"The certificate of 127.0.0.1 is refused: {why}."
    assert inbox.seen == []


def test_https_to_a_server_that_speaks_http_is_told(receiver):
    inbox = receiver.new()
    error = refused(inbox.url.replace("http://", "https://"))
    assert (error.kind, error.sent) == (Kind.TLS, False)
    assert inbox.seen == []


def test_a_socket_that_uvloop_has_closed_closes_nobody_elses():
    # What uvloop does when a handshake breaks at the wrong moment: its issue 738.
    made = http._Socket(socket.AF_INET, socket.SOCK_STREAM, 0)
    os.close(made.fileno())
    pipe = os.pipe()
    assert made.fileno() in pipe
    del made
    gc.collect()
    for end in pipe:
        os.close(end)  # Raises if it is closed already.


def test_failed_handshakes_leave_no_socket_open(receiver):
    async def calls():
        async with client() as made:
            for port in ["tls_reset", "tls_self_signed", "tls_hang"] * 3:
                url = receiver.new(port=port).url
                with pytest.raises(CallFailed):
                    await made.post(url=url, body=b"", headers={}, timeout=5, connect_timeout=0.1)

    for run in (uvloop.run, asyncio.run):
        run(calls())  # uvloop keeps a pipe of its own for the process.
        before = len(os.listdir("/proc/self/fd"))
        run(calls())
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before


# ---- Headers that are not the caller's ----


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "elsewhere"},
        {"content-length": "1"},
        {"Transfer-Encoding": "chunked"},
        {"Expect": "100-continue"},
        {"Connection": "close"},
        {"x-own": "a\r\nx-other: b"},
        {"x-own": "a\nb"},
        {"x-own\r\nx-other": "b"},
        {"x-own": "a\0b"},
    ],
)
def test_a_header_that_would_reframe_the_request_is_not_sent(receiver, headers):
    inbox = receiver.new()
    error = refused(inbox.url, headers=headers)
    assert (error.kind, error.sent) == (Kind.BAD_REQUEST, False)
    assert inbox.seen == []
