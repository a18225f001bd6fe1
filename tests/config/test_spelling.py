"""Addresses of mail: the short way takes nothing that Django's validator refuses."""

from django.core.validators import EmailValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from config import spelling


@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(
    user=st.text("ab1_.+-é", min_size=1, max_size=6), host=st.text("ab1.-", min_size=2, max_size=9)
)
def test_a_plain_address_is_one_to_the_validator_too(user, host):
    address = f"{user}@{host}.example"
    if spelling._PLAIN_EMAIL.fullmatch(address):
        EmailValidator()(address)


def test_ordinary_addresses_are_plain():
    for address in ("ada@example.org", "Ada.King+1@mail.example.co.uk", "a_b-c@x1.de"):
        assert spelling._PLAIN_EMAIL.fullmatch(address)
        assert spelling.email_flaw(address) is None
    assert spelling.email_flaw("a@b@example.org") == (
        "email_invalid",
        "This is not an e-mail address.",
    )
