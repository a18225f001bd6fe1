"""The currency of a tenant's amounts, as ISO 4217 writes it. Nothing is ever converted.

What the platform says of a tenant after its sign-up is a column of the tenant's (Tenant.currency),
where the platform writes by its key's proof; it goes before what the sign-up said in its
`metadata`, and that before SLIPWAY["CUSTOMERS"]["currency"], which is everybody's.
"""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

# ISO 4217, list one (active codes) as SIX published it for ISO on 2026-01-01, less what no shop is
# paid in: what it marks as a fund (CHE), and the X… of no country: metals (XAU), bonds (XBA), units
# of account (XDR), tests (XTS) and no currency at all (XXX).
_LISTED = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF
CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ
GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP
LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR
PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC
SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UYW UZS VED VES VND VUV WST XAF XCD XCG
XOF XPF YER ZAR ZMW ZWG
"""
ACTIVE = frozenset(_LISTED.split())
_UNKNOWN = "No currency in use has this code in ISO 4217: write another, such as EUR."


def flaw(code: Any) -> tuple[str, str] | None:
    """What is wrong with a code that somebody says; None when it is a currency's."""
    if isinstance(code, str) and code in ACTIVE:
        return None
    return "currency_unknown", _UNKNOWN


def currency_of(*, said: str, metadata: Mapping[str, Any]) -> str | None:
    """A tenant's, of what the platform `said` and its sign-up did; None where nobody has said.

    What is no currency's code in `metadata`, which a sign-up may fill with anything, says nothing.
    What the platform said was looked at then, and stays though its country gave it up since.
    """
    if said:
        return said
    signed_up: Any = metadata.get("currency")
    if flaw(signed_up) is None:
        return str(signed_up)
    default: str | None = settings.SLIPWAY["CUSTOMERS"]["currency"]
    return default
