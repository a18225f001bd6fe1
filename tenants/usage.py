"""When keys were last used, written coarsely and off the path of requests."""

from threading import Event, Lock, Thread

import structlog
from django.db import DEFAULT_DB_ALIAS, Error, connections

from tenants.keys import Proof

EVERY_SECONDS = 20.0

_log = structlog.get_logger(__name__)
_used: set[str] = set()
_lock = Lock()
_wake = Event()
_writer: Thread | None = None


def note(proof: Proof, *, first: bool = False) -> None:
    """Remember that a key was used; the writer tells the database within EVERY_SECONDS.

    The first use of a key is written at once: from then on it cannot be claimed again.
    """
    if proof.prefix not in _used:
        with _lock:
            _used.add(proof.prefix)
        _start_writer()
    if first:
        _wake.set()


def flush() -> None:
    """Write what was noted, in one statement; what cannot be written is kept for the next time.

    A lost time-stamp would be no harm, a lost first use would: the key could be claimed again.
    """
    with _lock:
        prefixes = sorted(_used)
        _used.clear()
    if not prefixes:
        return
    try:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute("select slipway.note_key_use(%s)", [prefixes])
    except Error as error:
        _log.warning("key use was not written", error=type(error).__name__)
        with _lock:
            _used.update(prefixes)


def _start_writer() -> None:
    # Begun by the first use, after the server has forked: threads do not survive a fork.
    global _writer
    with _lock:
        if _writer is None or not _writer.is_alive():
            _writer = Thread(target=_write_on, name="key-usage", daemon=True)
            _writer.start()


def _write_on() -> None:
    while True:
        _wake.wait(EVERY_SECONDS)
        _wake.clear()
        flush()
        connections.close_all()
