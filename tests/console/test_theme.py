"""The themes: readable, complete, found, and their mistakes named."""

from __future__ import annotations

from pathlib import Path

import pytest

from libstaragent.errors import StarAgentError
from opsconsole.theme import contrast, find_theme, grounds, load_themes, read_theme, text_colours

THEMES = load_themes()


@pytest.mark.parametrize("name", THEMES)
def test_every_text_is_readable_on_every_ground(name: str) -> None:
    least = 7.0 if name == "contrast" else 4.5
    for text_name, text in text_colours(THEMES[name]):
        for ground_name, ground in grounds(THEMES[name]):
            assert contrast(text, ground) >= least, f"{text_name} on {ground_name}"


def test_the_six_themes_are_there_the_default_first() -> None:
    assert list(THEMES) == ["star-dark", "contrast", "deuteranopia", "star-light", "tritanopia", "mono"]


def test_contrast_is_the_ratio_of_wcag() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_an_unknown_theme_lists_the_names() -> None:
    with pytest.raises(StarAgentError, match="star-light") as raised:
        find_theme(THEMES, "nope")
    assert raised.value.code.code == "SA-1121"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("primary =", "primray ="), "primray: unknown key; the nearest is primary"),
        (("role-good =", "role-goood ="), "variables.role-good: missing"),
        (("\nforeground =", "\n# "), "foreground: missing"),
        (("name = ", "name ="), None),
        (("dark = ", "dark "), "t.toml"),
    ],
)
def test_a_mistake_in_a_theme_is_named(change: tuple[str, str], message: str | None) -> None:
    file = Path(__file__).resolve().parents[2] / "themes" / "star-dark.toml"
    text = file.read_text(encoding="utf-8").replace(*change)
    if message is None:
        assert read_theme(text, file="t.toml").name == "star-dark"
        return
    with pytest.raises(StarAgentError, match=message) as raised:
        read_theme(text, file="t.toml")
    assert raised.value.code.code == "SA-1021"
