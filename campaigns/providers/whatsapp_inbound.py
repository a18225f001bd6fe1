"""What people write to a WhatsApp number, read for one thing alone: that they want no more of it.

"Webhooks" in Meta's documentation of the Cloud API: `messages` brings what they wrote, or which
button of a template they pressed; `user_preferences`, that they stopped marketing messages of this
business in WhatsApp's own settings. All else that is in them is passed over, and kept nowhere.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from campaigns.providers import OptOut
from campaigns.providers.reading import moment_or_now, objects, provider_id
from config.problems import FieldError

# The whole of a message, whatever its case and the marks around it: what carriers of text messages
# keep to (CTIA, "Messaging Principles and Best Practices"), and the same in other languages.
WORDS = frozenset(
    {
        *("stop", "stop all", "stopall", "unsubscribe", "end", "quit", "cancel"),
        *("opt out", "optout", "revoke", "stopp", "abmelden", "abbestellen", "arret", "arrêt"),
        *("baja", "parar", "sair", "disiscrivimi", "annulla"),
    }
)
MOST_WORDS, LONGEST_WORD = 50, 50

_MARKS = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"[1-9][0-9]{6,14}")


def opt_outs(entries: Any, words: Collection[str]) -> Iterator[OptOut]:
    """Everybody who says so in a callback's entries; `words` take the place of WORDS."""
    wanted = {plain(word) for word in words or WORDS}
    for entry in objects(entries):
        for change in objects(entry.get("changes")):
            value = change.get("value")
            if not isinstance(value, dict):
                continue
            if change.get("field") == "messages":
                yield from _written(value, wanted)
            elif change.get("field") == "user_preferences":
                yield from _preferred(value)


def word_flaws(words: Any) -> Iterator[FieldError]:
    """What is wrong with the account's own words."""
    where = "/options/opt_out_words"
    if not isinstance(words, list) or not 1 <= len(words) <= MOST_WORDS:
        yield FieldError(where, "wrong_type", f"A list of 1 to {MOST_WORDS} words.")
        return
    for index, word in enumerate(words):
        if not isinstance(word, str) or len(word) > LONGEST_WORD or not plain(word):
            message = f"A word, or a few, of {LONGEST_WORD} characters at most."
            yield FieldError(f"{where}/{index}", "invalid_format", message)


def plain(text: str) -> str:
    """A text as words are compared: no case, no marks, single spaces."""
    return _MARKS.sub(" ", text.casefold()).strip()


def _written(value: Mapping[str, Any], words: Collection[str]) -> Iterator[OptOut]:
    for message in objects(value.get("messages")):
        said = next((text for text in _said(message) if plain(text) in words), None)
        if said is not None:
            context = message.get("context")
            answered = provider_id(context.get("id")) if isinstance(context, dict) else ""
            yield from _of(value, message.get("from"), message, f"wrote {plain(said)}", answered)


def _said(message: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a message that are no longer than a word may be."""
    text, button, pressed = (message.get(name) for name in ("text", "button", "interactive"))
    reply = pressed.get("button_reply") if isinstance(pressed, dict) else None
    for part, names in ((text, ["body"]), (button, ["payload", "text"]), (reply, ["id", "title"])):
        said = [part.get(name) for name in names] if isinstance(part, dict) else []
        yield from (one for one in said if isinstance(one, str) and len(one) <= 2 * LONGEST_WORD)


def _preferred(value: Mapping[str, Any]) -> Iterator[OptOut]:
    for one in objects(value.get("user_preferences")):
        if (one.get("category"), one.get("value")) == ("marketing_messages", "stop"):
            yield from _of(value, one.get("wa_id"), one, "stopped marketing messages in WhatsApp")


def _of(
    value: Mapping[str, Any], who: Any, said: Mapping[str, Any], why: str, answered: str = ""
) -> Iterator[OptOut]:
    """The opt-out of one; none of whose number is none."""
    about = value.get("metadata")
    sender = about.get("phone_number_id") if isinstance(about, dict) else None
    if isinstance(who, str) and _DIGITS.fullmatch(who) and isinstance(sender, str):
        yield OptOut(f"+{who}", sender, moment_or_now(said.get("timestamp")), why, answered)
