"""Phone numbers: the short way says what the long way says."""

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customers import phones

CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("+49 30 901820", "+4930901820"),
        ("0049 30 901820", "+4930901820"),
        ("+49 (0)30 901820", "+4930901820"),
        ("+1 212 555 0100", "+12125550100"),
        ("+39 06 1234567", "+39061234567"),
        ("+7 8 495 123 45 67", "+74951234567"),
    ],
)
def test_it_is_normalised(written, normal):
    assert phones.normalise(written) == normal
    assert phones.normalise(normal) == normal


@pytest.mark.thorough
@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(code=st.sampled_from(CODES), rest=st.text("0123456789", min_size=3, max_size=13))
def test_what_is_not_parsed_would_have_come_out_the_same(code, rest):
    text = f"+{code}{rest}"
    if phones._is_normal(text):
        assert phones._parsed(text) == text


def test_an_ordinary_number_need_not_be_parsed():
    assert all(map(phones._is_normal, ["+4930901820", "+12125550100", "+447911123456"]))
