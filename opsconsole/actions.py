"""The one table of what can be done in the console.

Keys, `:` verbs, the footer's hints, the `?` list, the palette and docs/keys.md are all made from here. It does not do
anything itself: an action `run.open` is carried out by the nearest `do_run_open` around the focus (widget, screen,
app).

Rules: pure; every action has an effect, and `read_only` is decided by it alone; an action that destroys has no
navigation key: a capital or a `:` verb, and it asks for the exact count of hosts.
"""

from __future__ import annotations

__all__ = (
    "ACTIONS",
    "NAVIGATION_KEYS",
    "Action",
    "Effect",
    "Where",
    "action",
    "actions_in",
    "handler_name",
    "key_label",
    "keys_document",
    "overlap",
    "verbs",
)

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Effect = Literal["read", "mutate", "destroy"]
# A place where keys are heard: a kind of widget, a screen, or all screens.
Where = Literal["table", "log", "hosts", "jobs", "output", "outcomes", "anywhere"]

_WIDGETS: frozenset[Where] = frozenset({"table", "log"})
_SCREENS: frozenset[Where] = frozenset({"hosts", "jobs", "output", "outcomes"})

# What hands press without looking; nothing that destroys may stand here.
NAVIGATION_KEYS = frozenset(
    [
        *"hjklgGnN",
        "space",
        "escape",
        "enter",
        "tab",
        "shift+tab",
        "up",
        "down",
        "left",
        "right",
        "home",
        "end",
        "pageup",
        "pagedown",
        "ctrl+d",
        "ctrl+u",
        "left_square_bracket",
        "right_square_bracket",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that can be done.

    Attributes:
        title: one or two words for the footer and the lists.
        help: one sentence.
        keys: as Textual names them; the user's keymap may replace them.
        where: the places in which it is valid.
        verbs: what one types after a colon; the first is the name, the others are short for it.
        argument: what may follow the verb, for the help.
        hint: its rank in the footer; 0 keeps it out.
    """

    id: str
    title: str
    help: str
    effect: Effect
    where: tuple[Where, ...]
    keys: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    argument: str = ""
    hint: int = 0


_LINES: tuple[Where, ...] = ("table", "log")
_LISTS: tuple[Where, ...] = ("table",)
_ALL: tuple[Where, ...] = ("anywhere",)


def _read(
    identity: str,
    title: str,
    help_: str,
    keys: str = "",
    *,
    where: tuple[Where, ...] = _ALL,
    verbs: str = "",
    argument: str = "",
    hint: int = 0,
) -> Action:
    return Action(
        id=identity,
        title=title,
        help=help_,
        effect="read",
        where=where,
        keys=tuple(keys.split()),
        verbs=tuple(verbs.split()),
        argument=argument,
        hint=hint,
    )


ACTIONS: tuple[Action, ...] = (
    # Acting on the fleet.
    Action(
        id="run.open",
        title="run",
        help="Run a command on hosts: the marked ones, else the one under the cursor, or any you name.",
        effect="mutate",
        where=("hosts", "jobs", "output"),
        keys=("r",),
        verbs=("run",),
        argument="[TARGETS -- COMMAND]",
        hint=20,
    ),
    Action(
        id="run.shell",
        title="run in a shell",
        help="Run a line of shell on hosts, with its pipes and globs.",
        effect="mutate",
        where=("hosts", "jobs", "output"),
        verbs=("shell",),
        argument="[TARGETS -- LINE]",
    ),
    Action(
        id="job.cancel",
        title="cancel job",
        help="Stop the job on every host where it has not finished; asks for their number.",
        effect="destroy",
        where=("jobs", "output"),
        keys=("X",),
        verbs=("cancel",),
        hint=45,
    ),
    # Going places.
    _read(
        "host.detail",
        "details",
        "Show or hide the details of the host under the cursor.",
        "enter",
        where=("hosts",),
        hint=10,
    ),
    _read(
        "job.open",
        "open",
        "Open the job under the cursor: its hosts and its output.",
        "enter",
        where=("jobs",),
        hint=10,
    ),
    _read(
        "target.open",
        "this host",
        "Show only the output of the host under the cursor.",
        "enter",
        where=("output",),
        hint=10,
    ),
    _read(
        "target.merged", "all hosts", "Show the output of all hosts again, as it came.", "m", where=("output",), hint=15
    ),
    _read("view.hosts", "hosts", "Go to the hosts.", "H", verbs="hosts", argument="[FILTER]"),
    _read("view.jobs", "jobs", "Go to the jobs.", "J", verbs="jobs", argument="[FILTER]", hint=30),
    _read("view.outcomes", "outcomes", "Go to how targets ended in the last day.", verbs="outcomes"),
    _read("view.job", "job", "Open a job by its id, or the newest.", verbs="job", argument="[ID]"),
    _read("view.back", "back", "One level up: close what is open, clear the filter, leave the screen.", "escape"),
    _read("view.previous", "previous view", "Leave this view for the one before it.", "left_square_bracket minus"),
    _read("view.next", "next view", "Return to the view that was left last.", "right_square_bracket"),
    # Looking closer.
    _read(
        "filter.open",
        "filter",
        "Show only what matches: a regular expression, !not, or -f fuzzy.",
        "slash",
        verbs="filter",
        argument="[PATTERN]",
        hint=25,
    ),
    _read("find.next", "next match", "Go to the next row or line that matches.", "n", where=_LINES),
    _read("find.previous", "previous match", "Go to the one before.", "N", where=_LINES),
    _read(
        "code.explain",
        "explain",
        "Say what a code means and what to do: of the row, or SA-… as given.",
        verbs="explain",
        argument="[CODE]",
    ),
    _read("sort.next", "sort right", "Sort by the next column.", "greater_than_sign", where=_LISTS),
    _read("sort.previous", "sort left", "Sort by the column before.", "less_than_sign", where=_LISTS),
    _read("sort.reverse", "reverse", "Turn the order round.", "s", where=_LISTS),
    _read("sort.by", "sort", "Sort by the column named.", verbs="sort", argument="COLUMN"),
    _read(
        "mark.toggle",
        "mark",
        "Mark the row, or unmark it; actions are about the marked rows.",
        "space",
        where=_LISTS,
        hint=35,
    ),
    _read("mark.range", "mark range", "Start a range here; press again at its other end.", "v", where=_LISTS),
    _read(
        "mark.visible", "mark all", "Mark every row that the filter shows, or unmark them.", "asterisk", where=_LISTS
    ),
    _read("mark.clear", "unmark", "Clear all marks.", "ctrl+backslash u", where=_LISTS),
    _read(
        "log.follow",
        "follow",
        "Jump to the newest line and stay there, or stop.",
        "f",
        where=("log", "output"),
        hint=17,
    ),
    _read("log.wrap", "wrap", "Wrap long lines, or cut them.", "w", where=("log", "output"), hint=40),
    _read("pane.zoom", "zoom", "Give the pane the whole screen, or give it back.", "z"),
    *(_read(f"pane.{digit}", f"pane {digit}", f"Go to pane {digit}.", str(digit)) for digit in range(1, 10)),
    # Moving.
    _read("line.down", "down", "One row or line down.", "j down", where=_LINES),
    _read("line.up", "up", "One row or line up.", "k up", where=_LINES),
    _read("line.left", "left", "Scroll to the left.", "h left", where=_LINES),
    _read("line.right", "right", "Scroll to the right.", "l right", where=_LINES),
    _read("line.first", "first", "Go to the first row or line.", "g home", where=_LINES),
    _read("line.last", "last", "Go to the last row or line.", "G end", where=_LINES),
    _read("page.half_down", "half page down", "Half a page down.", "ctrl+d", where=_LINES),
    _read("page.half_up", "half page up", "Half a page up.", "ctrl+u", where=_LINES),
    _read("page.down", "page down", "A page down.", "pagedown", where=_LINES),
    _read("page.up", "page up", "A page up.", "pageup", where=_LINES),
    # The console itself.
    _read("command.open", "command", "Type a command, with completion and history.", "colon", hint=80),
    _read("actions.open", "actions", "List what can be done here, and do it.", "question_mark", verbs="help", hint=90),
    _read("palette.open", "palette", "Find any action by name.", "ctrl+p"),
    _read("jump.open", "jump", "Go to a pane by the letter shown on it.", "ctrl+o"),
    _read("theme.set", "theme", "Use the theme named, or the next one.", verbs="theme", argument="[NAME]"),
    _read("console.interrupt", "interrupt", "Say how to leave; a running job is never stopped by it.", "ctrl+c"),
    _read("console.quit", "quit", "Leave the console; jobs go on.", "ctrl+q", verbs="quit q"),
)

_BY_ID: Mapping[str, Action] = {entry.id: entry for entry in ACTIONS}

_LABELS: Mapping[str, str] = {
    "slash": "/",
    "colon": ":",
    "question_mark": "?",
    "asterisk": "*",
    "greater_than_sign": ">",
    "less_than_sign": "<",
    "minus": "-",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "ctrl+backslash": "ctrl-\\",
    "escape": "esc",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
}


def action(identity: str) -> Action:
    """The action of this id; KeyError where there is none."""
    return _BY_ID[identity]


def handler_name(identity: str) -> str:
    """The method that carries an action out."""
    return "do_" + identity.replace(".", "_")


def actions_in(*places: Where) -> list[Action]:
    """The actions that are valid in any of these places, in the table's order."""
    return [entry for entry in ACTIONS if not set(entry.where).isdisjoint(places)]


def overlap(one: Iterable[Where], other: Iterable[Where]) -> bool:
    """Whether a key could mean both: the same place, or a widget and a screen around it, or anywhere."""
    for left in one:
        for right in other:
            if left == right or "anywhere" in (left, right):
                return True
            if (left in _WIDGETS) != (right in _WIDGETS) and {left, right} not in (
                {"log", "hosts"},
                {"log", "jobs"},
                {"log", "outcomes"},
            ):
                return True
    return False


def verbs() -> dict[str, Action]:
    """Every `:` verb and what it does."""
    return {verb: entry for entry in ACTIONS for verb in entry.verbs}


def key_label(key: str) -> str:
    """A key as people write it: ctrl-d, /, esc."""
    return _LABELS.get(key, key.replace("ctrl+", "ctrl-").replace("shift+", "shift-"))


_PLACES: Mapping[str, str] = {
    "anywhere": "anywhere",
    "table": "tables",
    "log": "output",
    "hosts": "hosts",
    "jobs": "jobs",
    "outcomes": "outcomes",
    "output": "job",
}


def keys_document() -> str:
    """docs/keys.md."""
    lines = [
        "# Keys",
        "",
        "Made from the table in `opsconsole/actions.py`; `?` in the console lists what can be done where you are.",
        "Keys change by `keymap.toml` in the configuration folder (on Linux `~/.config/opsconsole`), by their ids:",
        "",
        "```toml",
        "[keys]",
        '"run.open" = "x"',
        '"line.down" = ["j", "down", "ctrl+n"]',
        "```",
        "",
        "| keys | verb | action | where | effect | what it does |",
        "|---|---|---|---|---|---|",
    ]
    for entry in ACTIONS:
        keys = " ".join(f"`{key_label(key)}`" for key in entry.keys)
        argument = f" {entry.argument}" if entry.argument else ""
        typed = " ".join(f"`:{verb}{argument if verb == entry.verbs[0] else ''}`" for verb in entry.verbs)
        places = ", ".join(_PLACES[place] for place in entry.where)
        lines.append(f"| {keys} | {typed} | `{entry.id}` | {places} | {entry.effect} | {entry.help} |")
    return "\n".join(lines) + "\n"
