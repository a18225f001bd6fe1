"""No URL and no answer of DNS leads a webhook to an address that is not public.

Each attack is made by both clients, at the port of a canary: a listener on this machine, which must
see no connection. That it would see one is shown first.
"""

# ruff: noqa: RUF001 - letters that look like others are the attack.

import socket

import pytest
import uvloop

from webhooks import addresses, http, sync_http
from webhooks.addresses import is_private, is_public
from webhooks.answers import CallFailed, Kind
from webhooks.destinations import BadUrl, check_url
from webhooks.http import Client
from webhooks.lookups import Lookups

NOWHERE = "2d00::1"  # In a block that IANA has given to nobody: public in form, and never routed.


class Canary:
    """Listens on loopback, in both families, on one port."""

    def __init__(self) -> None:
        self.listeners = [socket.create_server(("127.0.0.1", 0))]
        self.port = self.listeners[0].getsockname()[1]
        if socket.has_ipv6:
            six = socket.create_server(("::1", self.port), family=socket.AF_INET6)
            self.listeners.append(six)
        for listener in self.listeners:
            listener.setblocking(False)

    def taken(self) -> list[bytes]:
        """What came over each connection since the last time."""
        came = []
        for listener in self.listeners:
            while True:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    break
                connection.settimeout(0.2)
                try:
                    came.append(connection.recv(4096))
                except TimeoutError:
                    came.append(b"(nothing)")
                connection.close()
        return came

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()


@pytest.fixture(scope="module")
def listening():
    made = Canary()
    yield made
    made.close()


@pytest.fixture
def canary(listening, settings):
    """Its port is one that webhooks may go to, so that no attack fails for the port alone."""
    settings.SLIPWAY = settings.SLIPWAY | {"WEBHOOKS": {"ports": [443, listening.port]}}
    listening.taken()
    return listening


def infos(*found: str):
    return [
        (
            socket.AF_INET6 if ":" in address else socket.AF_INET,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
            "",
            (address, 0, 0, 0) if ":" in address else (address, 0),
        )
        for address in found
    ]


def never(host: str, port: int):
    raise AssertionError(f"{host} was looked up")


def by_aiohttp(url: str, lookup=never, *, timeout=2, **options):
    async def call():
        client = Client(lookup=lookup)
        try:
            return await client.post(url=url, body=b"{}", headers={}, timeout=timeout, **options)
        finally:
            await client.close()

    return uvloop.run(call())


def by_requests(url: str, lookup=never, *, timeout=2, **options):
    lookups = Lookups(lookup)
    try:
        return sync_http.call("GET", url, headers={}, timeout=timeout, lookups=lookups, **options)
    finally:
        lookups.close()


CLIENTS = pytest.mark.parametrize("call", [by_aiohttp, by_requests])


# ---- URLs ----

LITERALS = [
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "0.0.0.0",
    "2130706433",  # 127.0.0.1 as one number,
    "0x7f000001",  # in hexadecimal,
    "017700000001",  # in octal,
    "0x7f.0.0.1",  # by parts,
    "0177.0.0.1",
    "0x7f.1",
    "127.1",
    "127.0.1",
    "127.0.0.01",
    "127.0.0.1.",  # with a dot,
    "0",
    "0.0",
    "127.0.0.1%00",  # with a null,
    "127%2e0%2e0%2e1",  # quoted,
    "①②⑦.0.0.1",  # in other digits,
    "１２７.0.0.1",
    "٠x7f.0.0.1",
    "127。0。0。1",  # with other dots.
    "127｡0｡0｡1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[::1%lo]",
    "[::1%25lo]",
    "[fe80::1%25lo]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[v1.fe80]",
    "169.254.169.254",
    "169.254.170.2",
    "[::ffff:a9fe:a9fe]",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "localhost",
    "LOCALHOST",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "localhost.",
    "localhost.localdomain",
    "api.localhost",
    "metadata.google.internal",
    "printer.local",
    "router.home.arpa",
    "intranet",
    "127.0.0.1.0x7f",
    "example.com..",
    "",
]


@CLIENTS
@pytest.mark.parametrize("host", LITERALS)
def test_no_spelling_of_a_host_leads_inside(canary, call, host):
    url = f"https://{host}:{canary.port}/hook"
    with pytest.raises(CallFailed) as refused:
        call(url)
    assert (refused.value.kind, refused.value.sent) == (Kind.BAD_REQUEST, False)
    assert canary.taken() == []
    with pytest.raises(BadUrl):
        check_url(url)


TRICKS = [
    "http://127.0.0.1:{port}/",
    "http://hooks.example.com:{port}/",
    "HTTP://hooks.example.com:{port}/",
    "ftp://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/x",
    "https+unix://127.0.0.1:{port}/",
    "ws://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}",
    "https:127.0.0.1:{port}",
    "https:/127.0.0.1:{port}/",
    "https:///127.0.0.1:{port}/",
    "https://user@127.0.0.1:{port}/",
    "https://hooks.example.com@127.0.0.1:{port}/",
    "https://hooks.example.com:443@127.0.0.1:{port}/",
    "https://user:word@hooks.example.com/",
    "https://:@hooks.example.com/",
    "https://127.0.0.1:{port}#@hooks.example.com/",
    "https://127.0.0.1:{port}?@hooks.example.com/",
    "https://hooks.example.com\\@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}\\@hooks.example.com/",
    "https:\\\\127.0.0.1:{port}/",
    "https://hooks.example.com\r\nHost: 127.0.0.1/",
    "https://hooks.example.com/\r\nX-Own: 1",
    "https://hooks.example.com/ HTTP/1.1\r\nHost: x",
    "https://127.0.0\t.1:{port}/",
    "https://127.0.0.1\n:{port}/",
    " https://127.0.0.1:{port}/",
    "https://hooks.example.com\u2028/",
    "https://hooks.example.com:22/",
    "https://hooks.example.com:25/",
    "https://hooks.example.com:80/",
    "https://hooks.example.com:6379/",
    "https://hooks.example.com:0/",
    "https://hooks.example.com:-1/",
    "https://hooks.example.com:99999/",
    "https://hooks.example.com:443:{port}/",
    "https://[::1/",
    "https://::1:{port}/",
    "https://[::1]@hooks.example.com/",
    "https://" + "a" * 64 + ".example.com/",
    "https://" + "a." * 127 + "example.com/",
    "https://hooks.example.com/" + "a" * 2048,
    "https://hooks_.-.example.com/",
    "https://*.example.com/",
    "https://hooks.example.com,127.0.0.1/",
    "https://hooks.example.com;127.0.0.1/",
    "https://xn--/",
    "",
]


@CLIENTS
@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_in_a_url_leads_inside(canary, call, trick):
    url = trick.format(port=canary.port)
    with pytest.raises(CallFailed) as refused:
        call(url)
    assert (refused.value.kind, refused.value.sent) == (Kind.BAD_REQUEST, False)
    assert canary.taken() == []
    with pytest.raises(BadUrl):
        check_url(url)


# ---- Answers of DNS ----

ANSWERS = [
    ["127.0.0.1"],
    ["0.0.0.0"],
    ["10.1.2.3"],
    ["100.64.0.1"],
    ["100.100.100.200"],
    ["168.63.129.16"],
    ["169.254.169.254"],
    ["172.20.0.1"],
    ["192.0.0.192"],
    ["192.0.2.1"],
    ["192.88.99.1"],
    ["192.168.0.1"],
    ["198.19.255.255"],
    ["198.51.100.1"],
    ["203.0.113.1"],
    ["224.0.0.251"],
    ["240.0.0.1"],
    ["255.255.255.255"],
    ["::"],
    ["::1"],
    ["::ffff:127.0.0.1"],
    ["::ffff:8.8.8.8"],
    ["::127.0.0.1"],
    ["64:ff9b::7f00:1"],
    ["64:ff9b:1::a00:1"],
    ["100::1"],
    ["2001::7f00:1"],
    ["2001:2::1"],
    ["2001:10::1"],
    ["2001:db8::1"],
    ["2002:7f00:1::1"],
    ["3fff::1"],
    ["4000::1"],
    ["5f00::1"],
    ["fc00::1"],
    ["fd00:ec2::254"],
    ["fd20:ce::254"],
    ["fe80::1"],
    ["fe80::1%lo"],
    [f"{NOWHERE}%lo"],
    ["fec0::1"],
    ["ff02::1"],
    [NOWHERE, "127.0.0.1"],  # Several, one of them private, in either order.
    ["127.0.0.1", NOWHERE],
    [NOWHERE, "::1", "10.0.0.1"],
    ["not an address"],
]


@CLIENTS
@pytest.mark.parametrize("found", ANSWERS, ids="+".join)
def test_no_answer_of_dns_leads_inside(canary, call, found):
    with pytest.raises(CallFailed) as refused:
        call(f"https://hooks.example.com:{canary.port}/", lambda host, port: infos(*found))
    assert (refused.value.kind, refused.value.sent) == (Kind.BLOCKED, False)
    assert str(refused.value).startswith("hooks.example.com leads to ")
    assert canary.taken() == []


@CLIENTS
def test_a_name_that_is_an_alias_of_an_inner_one_leads_nowhere(canary, call):
    def alias(host, port):
        return [(*infos("127.0.0.1")[0][:3], "localhost", ("127.0.0.1", port))]

    with pytest.raises(CallFailed) as refused:
        call(f"https://hooks.example.com:{canary.port}/", alias)
    assert refused.value.kind == Kind.BLOCKED
    assert canary.taken() == []


@CLIENTS
def test_a_name_with_no_address_is_told(canary, call):
    with pytest.raises(CallFailed) as refused:
        call(f"https://hooks.example.com:{canary.port}/", lambda host, port: [])
    assert refused.value.kind == Kind.DNS


@CLIENTS
def test_a_name_that_moves_between_the_check_and_the_connection_leads_nowhere(canary, call):
    """Rebinding: what was checked is what is connected to, and nothing is asked again."""
    asked = []

    def moving(host, port):
        asked.append(host)
        return infos(NOWHERE if len(asked) == 1 else "127.0.0.1")

    url = f"https://hooks.example.com:{canary.port}/"
    with pytest.raises(CallFailed) as first:
        call(url, moving, connect_timeout=0.3)
    assert first.value.kind in {Kind.UNREACHABLE, Kind.CONNECT_TIMEOUT}
    assert asked == ["hooks.example.com"]
    with pytest.raises(CallFailed) as second:
        call(url, moving, connect_timeout=0.3)
    assert second.value.kind == Kind.BLOCKED
    assert canary.taken() == []


def test_the_socket_is_checked_even_if_the_resolver_lies(canary):
    class Liar:
        async def resolve(self, host, port=0, family=0):
            return [
                {
                    "hostname": host,
                    "host": "127.0.0.1",
                    "port": port,
                    "family": socket.AF_INET,
                    "proto": 0,
                    "flags": 0,
                }
            ]

        async def close(self):
            pass

    async def call():
        client = Client()
        client._connector._resolver = Liar()
        try:
            await client.post(url=url, body=b"secret", headers={}, timeout=2)
        finally:
            await client.close()

    url = f"https://hooks.example.com:{canary.port}/"
    with pytest.raises(CallFailed) as refused:
        uvloop.run(call())
    assert (refused.value.kind, refused.value.sent) == (Kind.BLOCKED, False)
    assert canary.taken() == []


def test_the_peer_of_a_connection_is_checked_before_anything_is_sent(receiver):
    """A connection that should not be there: kept from when its pair was open."""
    inbox = receiver.new()

    async def calls():
        client = Client()
        try:
            await client.post(url=inbox.url, body=b"1", headers={}, timeout=2)
            closed = http._Trip(addresses.Policy(frozenset(), frozenset()), opened=False)
            token = http._trip.set(closed)
            try:
                await client._session.post(inbox.url, data=b"2")
            finally:
                http._trip.reset(token)
        finally:
            await client.close()

    with pytest.raises(CallFailed) as refused:
        uvloop.run(calls())
    assert refused.value.kind == Kind.BLOCKED
    assert [request["body"] for request in inbox.seen] == ["1"]


@CLIENTS
@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:{port}/", "file:///etc/passwd"],
)
def test_no_redirect_leads_inside(canary, receiver, call, status, target):
    inbox = receiver.new("redirect", status, target.format(port=canary.port))
    assert call(inbox.url).status == status
    assert len(inbox.seen) == 1
    assert canary.taken() == []


@CLIENTS
def test_no_proxy_of_the_environment_is_gone_through(canary, receiver, call, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    monkeypatch.setenv("no_proxy", "")
    assert call(receiver.new().url).status == 200
    with pytest.raises(CallFailed):
        call(
            f"https://hooks.example.com:{canary.port}/",
            lambda host, port: infos(NOWHERE),
            connect_timeout=0.2,
        )
    assert canary.taken() == []


# ---- The other side: what may be reached is ----


@CLIENTS
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "hooks.example.com", "localhost"])
def test_the_canary_sees_what_the_operator_has_opened(canary, settings, call, host):
    settings.WEBHOOK_OPEN_DESTINATIONS = [(host.strip("[]"), canary.port)]
    with pytest.raises(CallFailed) as failed:
        call(
            f"http://{host}:{canary.port}/hook",
            lambda host, port: infos("127.0.0.1"),
            timeout=0.2,
        )
    assert failed.value.kind == Kind.DEADLINE  # The canary takes the request, and says nothing.
    (request,) = canary.taken()
    assert request.split(b" ")[1] == b"/hook"


@CLIENTS
def test_what_is_opened_is_that_pair_and_no_other(canary, settings, call):
    settings.WEBHOOK_OPEN_DESTINATIONS = [
        ("127.0.0.1", canary.port + 1),
        ("other.example.com", canary.port),
    ]
    for host in ("127.0.0.1", "hooks.example.com"):
        with pytest.raises(CallFailed):
            call(f"http://{host}:{canary.port}/", lambda host, port: infos("127.0.0.1"))
    assert canary.taken() == []


@CLIENTS
@pytest.mark.parametrize(
    "found", ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "168.63.129.16", "224.0.0.1"]
)
def test_no_opening_reaches_a_metadata_server(canary, settings, call, found):
    settings.WEBHOOK_OPEN_DESTINATIONS = [("hooks.example.com", canary.port)]
    with pytest.raises(CallFailed) as refused:
        call(f"http://hooks.example.com:{canary.port}/", lambda host, port: infos(found))
    assert refused.value.kind == Kind.BLOCKED


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::1"]
)
def test_public_addresses_are_public(address):
    assert is_public(address)
    assert not is_private(address)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://hooks.example.com/a?b=c", "https://hooks.example.com/a?b=c"),
        ("HTTPS://Hooks.Example.COM:443/A", "https://hooks.example.com/A"),
        ("https://hooks.example.com", "https://hooks.example.com"),
        ("https://münchen.example/ü", "https://xn--mnchen-3ya.example/%C3%BC"),
        ("https://hooks.example.com:8443/#part", "https://hooks.example.com:8443/"),
        ("https://my_app.example.com/", "https://my_app.example.com/"),
        ("https://1.1.1.1/", "https://1.1.1.1/"),
        ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
    ],
)
def test_a_good_url_is_kept_in_one_spelling(url, kept):
    assert check_url(url) == kept
    assert check_url(kept) == kept


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://example.com/", "The URL begins with http. Use https://."),
        ("example.com/hook", "The URL names no host. Write it like https://example.com/hooks."),
        ("https://a:b@example.com/", "The URL has a user name or password in it. Send credentials"),
        ("https://127.0.0.1/", "127.0.0.1 is not a public address. Use one that the internet"),
        ("https://2130706433/", "2130706433 is an odd spelling of an address."),
        ("https://example.com:22/", "The URL's port is 22. Use 443 or 8443."),
        ("https://example.com./", "The host ends in a dot. Leave it out."),
        ("https://printer.local/", "printer.local is a name inside a network."),
        ("https://intranet/", "intranet is not a full host name such as hooks.example.com."),
        ("https://example.com/a b", "The URL has a space, a control character or a backslash"),
    ],
)
def test_a_bad_url_is_refused_with_a_sentence(url, sentence):
    with pytest.raises(BadUrl, match=sentence.replace(".", r"\.")):
        check_url(url)
