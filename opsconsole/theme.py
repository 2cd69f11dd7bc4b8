"""Themes: TOML palettes, checked for contrast, found beside the checkout or inside the installed package.

It is not the drawing: a theme gives the colours of Textual's own names, and the roles (good, warn, bad, info, muted)
and terminal colours that the console's widgets draw with. Colour never speaks alone: each state has a glyph and a
word too.

Rules: every text colour stands at 4.5:1 or more on every ground it may stand on; an unknown key is an error that
names it. Under NO_COLOR the app uses `mono` and `ansi_color=False`: Textual 8.2.8 draws ansi themes black on black
there.
"""

from __future__ import annotations

__all__ = (
    "DEFAULT_THEME",
    "MONO_THEME",
    "ROLES",
    "Palette",
    "contrast",
    "find_theme",
    "grounds",
    "load_themes",
    "read_theme",
    "text_colours",
)

import difflib
import importlib.resources
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rich.style import Style
from textual.theme import Theme

from libstaragent.codes import THEME_INVALID, THEME_UNKNOWN
from opsconsole.sanitize import PLAIN, TextStyle

DEFAULT_THEME = "star-dark"
MONO_THEME = "mono"
ROLES = ("muted", "good", "warn", "bad", "info", "accent")
TERMINAL_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
# What the widgets need besides Textual's own names.
_NEEDED = (
    *(f"role-{role}" for role in ROLES),
    *(f"term-{colour}" for colour in TERMINAL_COLOURS),
    "row-cursor",
    "faint",
)


def _directory() -> Traversable:
    """Where the themes are: in the wheel inside the package, in a checkout beside it."""
    installed = importlib.resources.files("opsconsole").joinpath("themes")
    return installed if installed.is_dir() else Path(__file__).resolve().parent.parent / "themes"


def load_themes() -> dict[str, Theme]:
    """The themes that come with the console, by name, the default first.

    Raises:
        UsageError: SA-1021, a theme cannot be used.
    """
    files = [entry for entry in _directory().iterdir() if entry.name.endswith(".toml")]
    loaded = [read_theme(entry.read_text(encoding="utf-8"), file=entry.name) for entry in files]
    loaded.sort(key=lambda theme: (theme.name != DEFAULT_THEME, theme.name == MONO_THEME, theme.name))
    return {theme.name: theme for theme in loaded}


def read_theme(text: str, *, file: str) -> Theme:
    """One theme from its TOML.

    Raises:
        UsageError: SA-1021 with the file and the key.
    """
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise THEME_INVALID.error(f"{file}: {error}") from None
    known = [field.name for field in fields(Theme)]
    for key in document:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise THEME_INVALID.error(f"{file}: {key}: unknown key" + (f"; the nearest is {near[0]}" if near else ""))
    for key in ("name", "primary", "foreground", "background", "surface", "panel"):
        if not isinstance(document.get(key), str):
            raise THEME_INVALID.error(f"{file}: {key}: missing")
    variables = document.get("variables")
    for key in _NEEDED:
        if not isinstance(variables, dict) or not isinstance(variables.get(key), str):
            raise THEME_INVALID.error(f"{file}: variables.{key}: missing")
    return Theme(**document)


def find_theme(themes: Mapping[str, Theme], name: str) -> Theme:
    """The theme of this name.

    Raises:
        NotFound: SA-1121; the detail lists the names.
    """
    if name not in themes:
        raise THEME_UNKNOWN.error(f"{name}; there are {', '.join(themes)}")
    return themes[name]


def _luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG 2.1 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours #rrggbb, 1 to 21 (WCAG 2.1)."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


class Palette:
    """A theme as the line-API widgets use it: Rich styles by role, made once a theme."""

    def __init__(self, theme: Theme) -> None:
        variables = theme.variables
        self.foreground = Style(color=theme.foreground)
        self.cursor = Style(bgcolor=variables["row-cursor"])
        self.faint = Style(color=variables["faint"])
        self.title = Style(color=variables["role-muted"], bold=True)
        self.roles: dict[str, Style] = {role: Style(color=variables[f"role-{role}"]) for role in ROLES}
        self.roles[""] = self.foreground
        self._terminal = {colour: Style(color=variables[f"term-{colour}"]) for colour in TERMINAL_COLOURS}
        self._styles: dict[TextStyle, Style] = {PLAIN: Style.null()}

    def output(self, style: TextStyle) -> Style:
        """The Rich style for what a host's output asked for: always readable, because the theme gives the colour."""
        found = self._styles.get(style)
        if found is None:
            base = self._terminal.get(style.colour, Style.null())
            if style.dim and not style.colour:
                base = self.roles["muted"]
            found = base + Style(
                bold=style.bold or None, italic=style.italic or None, underline=style.underline or None
            )
            self._styles[style] = found
        return found


def text_colours(theme: Theme) -> Iterator[tuple[str, str]]:
    """Every text colour of a theme with its name: what the contrast rule is about."""
    for role in ROLES:
        yield f"role-{role}", theme.variables[f"role-{role}"]
    for colour in TERMINAL_COLOURS:
        yield f"term-{colour}", theme.variables[f"term-{colour}"]
    yield "foreground", str(theme.foreground)


def grounds(theme: Theme) -> Iterator[tuple[str, str]]:
    """Every ground that text stands on."""
    yield "background", str(theme.background)
    yield "surface", str(theme.surface)
    yield "panel", str(theme.panel)
    yield "row-cursor", theme.variables["row-cursor"]
