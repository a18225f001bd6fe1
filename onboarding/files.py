"""Tenants' files: one prefix each in settings.STORAGES["tenants"], with a mark that says whose.

Prefixes are named by the tenant's number, never by its slug: a slug can be given up and taken by
someone else.
"""

import posixpath
from collections.abc import Iterator
from threading import Lock
from types import SimpleNamespace
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages

from onboarding.errors import NotOurs

CONNECT_SECONDS, READ_SECONDS = 3, 10  # Of each call to S3; the engine tries again.
_MARK = ".slipway"
_making = Lock()


def storage() -> Storage:
    """Where tenants' files are: a directory by default, a bucket by setting."""
    found = storages["tenants"]
    if hasattr(found, "client_config"):  # S3, and what speaks it.
        _bound(found)
    return found


def prefix_of(tenant_id: int) -> str:
    """The prefix of a tenant's files."""
    return f"t_{tenant_id}"


def read_mark(prefix: str) -> str | None:
    """What the prefix's mark says; None when there is none."""
    name = posixpath.join(prefix, _MARK)
    if not storage().exists(name):
        return None
    with storage().open(name) as file:
        return str(file.read().decode(errors="replace"))


def write_mark(prefix: str, mark: str) -> None:
    """Mark the prefix as its owner's; a mark that was half written is written anew.

    Raises NotOurs when it carries another's.
    """
    refuse_unless_ours(prefix, mark)
    name = posixpath.join(prefix, _MARK)
    storage().delete(name)  # save() would choose another name beside a file that is there.
    storage().save(name, ContentFile(mark.encode()))


def refuse_unless_ours(prefix: str, mark: str) -> None:
    """Raises NotOurs when the prefix carries another owner's mark. Half of ours is ours."""
    found = read_mark(prefix)
    if found is not None and not mark.startswith(found):
        raise NotOurs(f"storage prefix {prefix} carries another owner's mark")


def remove(prefix: str) -> None:
    """Delete all files below the prefix, and the prefix; nothing happens when there are none."""
    for name in list(_below(prefix)):
        storage().delete(name)


def prefixes() -> list[str]:
    """The prefixes that exist, whoever's they are."""
    directories, _ = _listed("")
    return [str(name).strip("/") for name in directories]


def _bound(s3: Any) -> None:
    """Short time-outs, since boto waits a minute for each of five tries; and one client for all.

    A client of boto's is safe to share and takes half a second of CPU to make; django-storages
    makes one for each thread.
    """
    with _making:
        if getattr(s3, "is_bounded", False):
            return
        # Only where there is a bucket: the import takes its time.
        from botocore.config import Config  # type: ignore[import-untyped]

        s3.client_config = s3.client_config.merge(
            Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": 1},
                max_pool_connections=50,
            )
        )
        s3._connections = SimpleNamespace()
        s3._bucket = None
        s3.bucket  # noqa: B018 - it is made here, once.
        s3.is_bounded = True


def _below(prefix: str) -> Iterator[str]:
    """Everything below a prefix and then the prefix itself, leaves first, the mark last of all."""
    directories, files = _listed(prefix)
    for directory in directories:
        yield from _below(posixpath.join(prefix, directory))
    yield from (posixpath.join(prefix, name) for name in sorted(files, key=_MARK.__eq__))
    yield prefix


def _listed(prefix: str) -> tuple[list[Any], list[Any]]:
    try:
        return storage().listdir(prefix)
    except FileNotFoundError:
        return [], []
