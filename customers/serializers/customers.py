"""What a customer looks like outside, and what the API takes."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import UNSET, Meta, UnsetType

from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError
from config.spelling import EMAIL_MOST, Flaw, email_flaw, unseen_flaw
from customers.models import ATTRIBUTES_LIMIT, Consent, Customer
from customers.phones import InvalidPhone, normalise
from tenants.serializers import REASON_MOST

LARGEST_VALUE = Decimal("999999999999.99")
_MOST_ATTRIBUTES = 50
_CENT = Decimal("0.01")
_JSON = msgspec.json.Encoder()

ExternalId = Annotated[str, Meta(min_length=1, max_length=100)]
Name = Annotated[str, Meta(max_length=200)]
Phone = Annotated[str, Meta(max_length=40)]
Email = Annotated[str, Meta(max_length=EMAIL_MOST)]
Reason = Annotated[str, Meta(max_length=REASON_MOST)]

PHONE_FLAW = (
    "invalid_phone",
    "It is not a phone number with its country code, such as +49 30 123456.",
)


class CustomerChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of POST and PATCH: what is left out stays as it is, or empty."""

    external_id: ExternalId | UnsetType | None = UNSET
    name: Name | UnsetType = UNSET
    phone: Phone | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET
    lifetime_value: Decimal | UnsetType = UNSET
    last_purchase_at: datetime | UnsetType | None = UNSET
    consent: Consent | UnsetType = UNSET

    @staticmethod
    def flaws(read: Any) -> Sequence[FieldError]:
        """What the types cannot say. Rows of files come through here, too: a list costs least."""
        errors: list[FieldError] = []
        for name, value in (("external_id", read.external_id), ("name", read.name)):
            if isinstance(value, str) and (flaw := unseen_flaw(value)):
                errors.append(FieldError(f"/{name}", *flaw))
        if isinstance(read.phone, str) and not _is_phone(read.phone):
            errors.append(FieldError("/phone", *PHONE_FLAW))
        email = read.email
        if isinstance(email, str) and email and (flaw := email_flaw(email.strip())):
            errors.append(FieldError("/email", "invalid_email", flaw[1]))
        if isinstance(read.attributes, dict):
            errors += _attribute_flaws(read.attributes)
        if isinstance(read.lifetime_value, Decimal) and (flaw := amount_flaw(read.lifetime_value)):
            errors.append(FieldError("/lifetime_value", *flaw))
        return errors

    def fields(self) -> dict[str, Any]:
        """The model's fields that the body names, in the form that is stored."""
        said = msgspec.structs.asdict(self).items()
        fields = {name: value for name, value in said if value is not UNSET and name in _FIELDS}
        if fields.get("phone"):
            fields["phone"] = normalise(fields["phone"])
        if fields.get("email"):
            fields["email"] = fields["email"].strip().lower()
        if "lifetime_value" in fields:
            fields["lifetime_value"] = amount(fields["lifetime_value"])
        return fields


_FIELDS = frozenset(CustomerChange.__struct_fields__)


class CustomerPatch(CustomerChange, forbid_unknown_fields=True, omit_defaults=True):
    """The body of PATCH. Whoever gives back a consent that was withdrawn says why."""

    consent_reason: Reason = ""

    @staticmethod
    def flaws(read: Any) -> Sequence[FieldError]:
        """What the types cannot say."""
        errors = [*CustomerChange.flaws(read)]
        if isinstance(read.consent_reason, str) and (flaw := unseen_flaw(read.consent_reason)):
            errors.append(FieldError("/consent_reason", *flaw))
        return errors


class CustomerAnswer(TypedDict):
    """A customer of the tenant."""

    id: str
    external_id: str | None
    name: str
    phone: str
    email: str
    attributes: dict[str, Any]
    lifetime_value: str
    last_purchase_at: Moment | None
    consent: str
    created_at: Moment
    updated_at: Moment


def customer_as_json(customer: Customer) -> CustomerAnswer:
    return {
        "id": format_id("cus", customer.pk),
        "external_id": customer.external_id,
        "name": customer.name,
        "phone": customer.phone,
        "email": customer.email,
        "attributes": customer.attributes,
        "lifetime_value": f"{customer.lifetime_value:.2f}",
        "last_purchase_at": customer.last_purchase_at,
        "consent": customer.consent,
        "created_at": customer.created_at,
        "updated_at": customer.updated_at,
    }


def _is_phone(phone: str) -> bool:
    """Whether it is empty, or the number of a phone."""
    try:
        return not phone or bool(normalise(phone))
    except InvalidPhone:
        return False


def _attribute_flaws(attributes: dict[str, Any]) -> Iterator[FieldError]:
    if len(attributes) > _MOST_ATTRIBUTES:
        yield FieldError("/attributes", "too_many", f"At most {_MOST_ATTRIBUTES} attributes.")
    if "" in attributes or max(map(len, attributes), default=0) > 64:
        yield FieldError("/attributes", "invalid_name", "Names have 1 to 64 characters.")
    # msgspec writes numbers of any size; decode() refuses those that others cannot read.
    if len(_JSON.encode(attributes)) > ATTRIBUTES_LIMIT:
        yield FieldError("/attributes", "too_long", f"At most {ATTRIBUTES_LIMIT} bytes of JSON.")


def amount_flaw(value: Decimal) -> Flaw:
    """Why an amount cannot be stored: a code and a sentence."""
    if not value.is_finite() or abs(value) > LARGEST_VALUE:
        return "out_of_range", "It is out of range."
    if not value.same_quantum(_CENT) and int(value.as_tuple().exponent) < -2:
        return "too_precise", "At most two decimal places."
    return None


def amount(value: Decimal) -> Decimal:
    """The amount as the column holds it: 0E+9 is a number too, and no database's."""
    return value.quantize(_CENT)
