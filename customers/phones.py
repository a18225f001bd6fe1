"""Phone numbers in one form: E.164."""

import phonenumbers


class InvalidPhone(ValueError):
    """It is no phone number, or could be one in several countries."""


def normalise(text: str) -> str:
    """`+49 30 123456` as `+4930123456`. The country code must be there: +… or 00….

    Raises InvalidPhone.
    """
    number = "+" + text.strip()[2:] if text.strip().startswith("00") else text.strip()
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        raise InvalidPhone(text) from None
    if not phonenumbers.is_possible_number(parsed):
        raise InvalidPhone(text)
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
