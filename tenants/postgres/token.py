"""The signed tenant context: `tenant.expiry.pid.key.mac`.

Postgres checks it in slipway.current_tenant_id(), with a key that the app role cannot read, so that
injected SQL cannot become another tenant. The MAC is HMAC-SHA-256 (RFC 2104).
"""

import hashlib
import hmac

BLOCK = 64  # Bytes; the block size of SHA-256.


def key_id(key: bytes) -> str:
    """A short name for a key: several may be valid while one replaces another."""
    return hashlib.sha256(b"slipway context " + key).hexdigest()[:8]


def pads(key: bytes) -> tuple[bytes, bytes]:
    """The inner and outer pads of RFC 2104, so that plain sha256() in SQL can make the MAC."""
    if len(key) > BLOCK:
        key = hashlib.sha256(key).digest()
    key = key.ljust(BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)


def sign(key: bytes, *, tenant_id: int, expires_at: int, pid: int) -> str:
    """A context for one tenant until `expires_at` (Unix seconds, the database's clock).

    `pid` is the backend's process id, which ties the context to one connection; 0 ties it to none.
    """
    message = f"{tenant_id}.{expires_at}.{pid}.{key_id(key)}"
    mac = hmac.new(key, message.encode(), hashlib.sha256).hexdigest()
    return f"{message}.{mac}"


def vouch(key: bytes, entry: str) -> str:
    """The MAC of an audit entry for slipway.record_for_operator. No context begins as it does."""
    return hmac.new(key, b"audit." + entry.encode(), hashlib.sha256).hexdigest()
