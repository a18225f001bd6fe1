"""Environment variables, read strictly: a bad value stops the start, and the message names it."""

import binascii
import json
import os
import re
from base64 import urlsafe_b64decode
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

SHORTEST_SECRET = 32  # Characters.
_HOST = re.compile(r"(?i)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


def text(name: str, default: str = "") -> str:
    """Any text; set and empty is not set."""
    return os.environ.get(name, "") or default


def required(name: str, *, why: str) -> str:
    """A value that has no default."""
    value = text(name)
    if not value:
        raise ImproperlyConfigured(f"{name} is not set. It {why}. See .env.example.")
    return value


def words(name: str, default: list[str]) -> list[str]:
    """A list, separated by commas."""
    return [word.strip() for word in text(name).split(",") if word.strip()] or default


def whole_number(name: str, default: int, *, least: int, most: int) -> int:
    """An integer within bounds."""
    value = text(name, str(default))
    if not re.fullmatch(r"-?[0-9]{1,18}", value) or not least <= int(value) <= most:
        raise ImproperlyConfigured(
            f"{name} is {value!r}, not a whole number from {least} to {most}."
        )
    return int(value)


def yes_or_no(name: str, default: bool) -> bool:
    """A boolean: true, false, 1, 0, yes, no, on, off."""
    value = text(name, str(default)).lower()
    if value not in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
        raise ImproperlyConfigured(f"{name} is {value!r}; say true or false.")
    return value in {"true", "1", "yes", "on"}


def one_of(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """A word from a short list."""
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} is {value!r}; say one of {', '.join(allowed)}.")
    return value


def http_url(name: str, default: str) -> str:
    """An http or https address of a host, without a path, and without the last slash."""
    value = text(name, default).rstrip("/")
    try:
        parts = urlsplit(value)
        port = parts.port  # Raises ValueError when it is none.
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {value!r}, which is no address.") from None
    plain = f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port else "")
    if parts.scheme not in {"http", "https"} or value.lower() != plain:
        raise ImproperlyConfigured(
            f"{name} is {value!r}, not an address such as https://example.com or http://host:8000."
        )
    return value.lower()


def host_name(name: str, default: str) -> str:
    """A host name in ASCII, in lower case."""
    value = text(name, default).lower()
    if not _HOST.fullmatch(value) or len(value) > 253:
        raise ImproperlyConfigured(f"{name} is {value!r}, not a host name.")
    return value


def networks(name: str) -> list[str]:
    """Addresses and networks, separated by commas; none by default."""
    values = words(name, [])
    for value in values:
        try:
            ip_network(value, strict=False)
        except ValueError:
            raise ImproperlyConfigured(
                f"{name} has {value!r} in it, which is neither an address nor a network."
            ) from None
    return values


def host_ports(name: str) -> list[tuple[str, int]]:
    """Pairs host:port (or [address]:port), separated by commas; none by default."""
    return [_host_port(name, value) for value in words(name, [])]


def _host_port(name: str, value: str) -> tuple[str, int]:
    host, _, port = value.lower().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        bare = str(ip_address(bare))
    except ValueError:
        known = _HOST.fullmatch(host) and len(host) <= 253
    else:
        known = (":" in bare) == host.startswith("[")
    if not known or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ImproperlyConfigured(
            f"{name} has {value!r} in it, not a pair such as 127.0.0.1:9000 or [::1]:9000."
        )
    return bare, int(port)


def secret(name: str, *, why: str) -> str:
    """A secret long enough not to be guessed."""
    return _long_enough(name, required(name, why=why))


def secrets(name: str, *, why: str) -> list[str]:
    """Secrets separated by commas, the newest first."""
    required(name, why=why)
    return [_long_enough(name, value) for value in words(name, [])]


def spare_secrets(name: str) -> list[str]:
    """Secrets separated by commas; none by default."""
    return [_long_enough(name, value) for value in words(name, [])]


def fernet_keys(name: str, *, why: str) -> list[str]:
    """Fernet keys separated by commas, the newest first: 32 bytes each, in base64url."""
    keys = secrets(name, why=why)
    for number, key in enumerate(keys, start=1):
        try:
            length = len(urlsafe_b64decode(key))
        except binascii.Error:
            length = 0
        if length != 32:
            raise ImproperlyConfigured(
                f"{name}: key {number} is not a Fernet key (32 bytes in base64url)."
            )
    return keys


def _long_enough(name: str, value: str) -> str:
    if len(value) < SHORTEST_SECRET:  # The value itself is never shown.
        raise ImproperlyConfigured(f"{name} is shorter than {SHORTEST_SECRET} characters.")
    return value


def database_url(name: str) -> dict[str, Any]:
    """Django's settings of a Postgres database, from its URL."""
    value = required(name, why="names a database")
    try:
        entry: dict[str, Any] = environ.Env.db_url_config(value)
    except (ValueError, ImproperlyConfigured, KeyError):
        entry = {}
    if urlsplit(value).scheme not in {"postgres", "postgresql"} or not entry.get("NAME"):
        # The URL has a password in it, and is not shown.
        raise ImproperlyConfigured(
            f"{name} is not the URL of a Postgres database:"
            " postgresql://role:password@host:5432/name."
        )
    return entry


def redis_url(name: str, *, why: str) -> str:
    """The address of a Redis or Valkey."""
    value = required(name, why=why)
    if urlsplit(value).scheme not in {"redis", "rediss", "unix"}:
        raise ImproperlyConfigured(f"{name} does not begin with redis://, rediss:// or unix://.")
    return value


def email_url(name: str) -> dict[str, Any]:
    """Django's EMAIL settings, from a URL such as smtp+tls://user:password@host:587."""
    try:
        settings: dict[str, Any] = environ.Env.email_url_config(required(name, why="sends mail"))
        _ = settings["EMAIL_BACKEND"]
    except (ValueError, ImproperlyConfigured, KeyError):
        raise ImproperlyConfigured(
            f"{name} is not the URL of a mail server: smtp+tls://user:password@host:587."
        ) from None
    return settings


def json_object(name: str, default: dict[str, Any]) -> dict[str, Any]:
    """An object in JSON."""
    value = text(name)
    if not value:
        return default
    try:
        read = json.loads(value)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise ImproperlyConfigured(f"{name} is not a JSON object.")
    return read
