"""The secrets of an embedded deployment: made once, kept in a file that only its owner reads."""

import fcntl
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from config.embedded.server import EmbeddedError

FILE = "secrets.env"


def stored_secrets(state_dir: Path) -> dict[str, str]:
    """The secrets in state_dir/secrets.env (mode 0600), made by whoever asks first."""
    path = make_state_dir(state_dir) / FILE
    if not path.exists():
        _write_once(path, "".join(f"{name}={make()}\n" for name, make in SECRETS.items()))
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return dict(pairs)


def rewrite(state_dir: Path, changes: Mapping[str, str]) -> None:
    """Change some of them, in one step that is on disk before it is seen.

    Processes that run keep what they have read. Raises FileNotFoundError where there are none.
    """
    path = state_dir / FILE
    with (state_dir / "secrets.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            raise FileNotFoundError(path)
        secrets_now = stored_secrets(state_dir) | dict(changes)
        text = "".join(f"{name}={value}\n" for name, value in secrets_now.items() if value)
        draft = _draft(path, text)
        draft.replace(path)


def _url_key() -> str:
    """32 random bytes in base64url: the form of a Fernet key."""
    return secrets.token_urlsafe(32) + "="


SECRETS: dict[str, Callable[[], str]] = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(50),
    "CONTEXT_KEY": lambda: secrets.token_hex(32),
    "STORED_SECRET_KEYS": _url_key,
    "CLAIM_KEYS": lambda: secrets.token_hex(32),
}


def make_state_dir(path: Path) -> Path:
    """Make the state directory, closed to others (but for the server's user when we are root)."""
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o711 if os.geteuid() == 0 else 0o700)
    if not os.access(path, os.W_OK):
        raise EmbeddedError(f"{path} belongs to another user; remove it or set SLIPWAY_STATE_DIR.")
    return path


def _write_once(path: Path, text: str) -> None:
    """Put text at path in one step, unless somebody was faster: link() never overwrites."""
    draft = _draft(path, text)
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()


def _draft(path: Path, text: str) -> Path:
    """A file beside `path` that is written in full, and that nobody else reads."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft
