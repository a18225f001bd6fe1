"""What must not be kept is taken out of what others say to us, however they write it.

Mail servers and back ends quote the owner's address; a back end that echoes its request quotes our
signature. Attempts are read by operators and kept for weeks.
"""

import re

# A Standard Webhooks signature, ours or theirs, and a secret.
_SECRETS = re.compile(r"v1a?,[A-Za-z0-9+/\\=%_-]{16,}|whsec_[A-Za-z0-9+/\\=%_-]+")


def redact(text: str, *, email: str, secret: str = "") -> str:
    """`text` without the owner's address, Standard Webhooks signatures and secrets.

    Also as JSON, HTML and URLs write them, in any case. `secret` is one that is known, without
    which its bare base64 would not be recognised.
    """
    text = _any_form(email).sub("<owner>", text)
    if bare := secret.removeprefix("whsec_"):
        text = _any_form(bare).sub("<secret>", text)
    return _SECRETS.sub("<secret>", text)


def _any_form(text: str) -> re.Pattern[str]:
    return re.compile("".join(map(_any_form_of, text)), re.IGNORECASE)


def _any_form_of(character: str) -> str:
    """One character as it is, or escaped for a URL, for JSON or for HTML."""
    if character.isalnum():
        return character
    code = ord(character)
    itself = re.escape(character)
    return rf"(?:\\?{itself}|%{code:02x}|\\+u{code:04x}|&#(?:{code}|x{code:x});)"
