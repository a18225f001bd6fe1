"""Storages that tell on whoever uses them."""

from django.core.files.storage import FileSystemStorage
from django.db import connections


class Watched(FileSystemStorage):
    """Knows whether a transaction was open while a file was deleted."""

    deleted: list[bool] = []

    def delete(self, name):
        self.deleted.append(connections["operator"].in_atomic_block)
        super().delete(name)


class Stubborn(FileSystemStorage):
    """Deletes nothing."""

    def delete(self, name):
        raise OSError("the storage does not answer")
