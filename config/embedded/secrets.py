"""The secrets of an embedded deployment: made once, kept in a file that only its owner reads."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from config.embedded.server import EmbeddedError


def stored_secrets(state_dir: Path) -> dict[str, str]:
    """The secrets in state_dir/secrets.env (mode 0600), made by whoever asks first."""
    path = make_state_dir(state_dir) / "secrets.env"
    if not path.exists():
        _write_once(path, "".join(f"{name}={make()}\n" for name, make in SECRETS.items()))
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return dict(pairs)


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
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()
