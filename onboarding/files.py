"""Tenants' files (tenants.files): the marks that say whose they are, and removing them."""

import posixpath
from collections.abc import Iterator
from typing import Any

from django.core.files.base import ContentFile

from onboarding.errors import NotOurs
from tenants.files import prefix_of, storage

__all__ = [
    "below",
    "prefix_of",
    "prefixes",
    "read_mark",
    "refuse_unless_ours",
    "remove",
    "storage",
    "write_mark",
]

_MARK = ".slipway"


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
    for name in list(below(prefix)):
        storage().delete(name)


def prefixes() -> list[str]:
    """The prefixes that exist, whoever's they are."""
    directories, _ = _listed("")
    return [str(name).strip("/") for name in directories]


def below(prefix: str) -> Iterator[str]:
    """Everything below a prefix and then the prefix itself, leaves first, the mark last of all."""
    directories, files = _listed(prefix)
    for directory in directories:
        yield from below(posixpath.join(prefix, directory))
    yield from (posixpath.join(prefix, name) for name in sorted(files, key=_MARK.__eq__))
    yield prefix


def _listed(prefix: str) -> tuple[list[Any], list[Any]]:
    try:
        return storage().listdir(prefix)
    except FileNotFoundError:
        return [], []
