"""The console's colours can be read in both themes: WCAG 2.2's contrast, of every pair in use.

1.4.3 asks 4.5 of text; 1.4.11 asks 3 of what is drawn and of the edges of what is typed into.
"""

import re

import pytest

from tests.conftest import ROOT

CSS = ROOT / "static" / "console"
BLOCK = re.compile(r"^\s*([^{}@]*?)\s*\{([^{}]*)\}", re.MULTILINE)
TOKEN = re.compile(r"--([\w-]+):\s*(#[0-9a-f]{6})\s*;")

GROUNDS = ("surface", "ground", "sunken")
TEXT = ("ink", "quiet", "mute", "brand", "good", "warn", "bad")
PAIRS = [
    *((text, ground) for text in TEXT for ground in GROUNDS),
    ("brand-ink", "brand"),
    # A row that is ticked, a message, a mark, a button.
    *((text, "brand-soft") for text in TEXT),
    *(("ink", f"{tone}-soft") for tone in ("good", "warn", "bad")),
    *((tone, f"{tone}-soft") for tone in ("good", "warn", "bad", "mute")),
]
DRAWN = [
    *((f"series-{n}", "surface") for n in range(1, 7)),
    *((tone, "surface") for tone in ("good", "warn", "bad", "mute")),
    ("series-1", "sunken"),  # A busy tenant's bar in its track.
    *(("edge", ground) for ground in GROUNDS),
]


def tokens() -> dict[str, dict[str, str]]:
    """Theme → token → colour; dark is said twice, for the system's wish and for the switch."""
    text = re.sub(r"/\*.*?\*/", "", (CSS / "console.css").read_text(), flags=re.DOTALL)
    found = [
        (" ".join(selector.split()), dict(TOKEN.findall(body)))
        for selector, body in BLOCK.findall(
            text.replace("@media (prefers-color-scheme: dark) {", "")
        )
        if "--surface: #" in body
    ]
    names = {
        'html[data-theme="light"], :root': "light",
        ":root": "dark, as the system wishes",
        'html[data-theme="dark"]': "dark",
    }
    return {names[selector]: colours for selector, colours in found}


def luminance(colour: str) -> float:
    """Relative, as WCAG defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_reckoned_as_wcag_does():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_both_ways_to_the_dark_theme_have_the_same_colours():
    found = tokens()
    assert set(found) == {"light", "dark", "dark, as the system wishes"}
    assert found["dark"] == found["dark, as the system wishes"]
    assert set(found["light"]) == set(found["dark"])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("pairs", "least"), [(PAIRS, 4.5), (DRAWN, 3.0)])
def test_every_pair_of_colours_in_use_has_contrast_enough(theme, pairs, least):
    colours = tokens()[theme]
    found = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: round(ratio, 2) for pair, ratio in found.items() if ratio < least} == {}


def test_text_has_no_colour_but_those_that_are_reckoned():
    """Fallbacks apart, which are for want of console.css."""
    known = {*TEXT, "brand-ink", "surface", "body-fg", "link-fg"}
    for sheet in CSS.glob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(), flags=re.DOTALL)
        said = re.findall(r"(?:^|[;{\s])color:\s*([^;}]+)", text)
        named = {value.strip() for value in said} - {"inherit", "currentcolor"}
        used = {re.sub(r"^var\(--([\w-]+).*\)$", r"\1", value) for value in named}
        assert used <= known, (sheet.name, used - known)


def test_the_focus_is_seen_by_a_colour_that_is_reckoned():
    [rule] = re.findall(r":focus-visible\s*{([^}]*)}", (CSS / "console.css").read_text())
    assert re.search(r"outline:\s*[2-9]px solid var\(--brand\)", rule)
    assert not [sheet for sheet in CSS.glob("*.css") if "opacity" in sheet.read_text()]
