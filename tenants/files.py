"""Where tenants' files are: one prefix each in settings.STORAGES["tenants"].

Prefixes are named by the tenant's number, never by its slug: a slug can be given up and taken by
someone else.
"""

from threading import Lock
from types import SimpleNamespace
from typing import Any

from django.core.files.storage import Storage, storages

CONNECT_SECONDS, READ_SECONDS = 3, 10  # Of each call to S3; the engine tries again.
MEMORY_MOST = 8 * 1024 * 1024  # Bytes of one file; what is longer lies on disk while it is read.
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
        s3.max_memory_size = s3.max_memory_size or MEMORY_MOST
        s3._connections = SimpleNamespace()
        s3._bucket = None
        s3.bucket  # noqa: B018 - it is made here, once.
        s3.is_bounded = True
