"""Numbers as people read them."""


def count(number: float) -> str:
    """12,345; above a hundred thousand 1.2M or 340k."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k")):
        if number >= least:
            return f"{number / unit:.3g}{letter}"
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"


def share(part: int, whole: int) -> str:
    """Per cent, never rounded up to 100 %."""
    if not whole:
        return "—"
    if part >= whole:
        return "100 %"
    return f"{min(99.99, 100 * part / whole):.2f} %"


def lasting(seconds: float) -> str:
    """A duration: 40 ms, 1.2 s, 5 min, 3 h, 2 d."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    for most, unit, letters in ((90, 60, "min"), (48, 3600, "h")):
        if seconds < most * unit:
            return f"{seconds / unit:.0f} {letters}"
    return f"{seconds / 86400:.0f} d"


def lasting_ms(milliseconds: float) -> str:
    """The same of milliseconds."""
    return lasting(milliseconds / 1000)
