"""The keys with which Postgres checks the tenant context: slipway.context_key."""

from django.db.backends.utils import CursorWrapper

from tenants.postgres import token


def install_context_key(cursor: CursorWrapper, key: bytes) -> None:
    """Let contexts signed with `key` pass, beside those of the keys that are there."""
    inner, outer = token.pads(key)
    cursor.execute(
        "insert into slipway.context_key (id, inner_pad, outer_pad) values (%s, %s, %s)"
        " on conflict (id) do nothing",
        [token.key_id(key), inner, outer],
    )


def drop_context_keys(cursor: CursorWrapper, *, keep: str) -> None:
    """Accept contexts of one key alone, named by its id; what is entered ends by itself."""
    cursor.execute("delete from slipway.context_key where id <> %s", [keep])
