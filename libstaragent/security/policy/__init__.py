"""Rules: who may do what, where, as whom and how much. They stand in the signed roster.

    TOML ──reader──▶ Rule, labels, groups, cases ──▶ roster, signed by an admin ──▶ central and agents: `decision`

Where to look: `model` (what a rule says), `words` and `paths` (patterns), `reader` (TOML in, by a person), `writing`
(TOML out), `ask` (what an act asks for), `decision` (yes or no), `explanation` (and why), `difference` (who gains and
who loses what).

Rules of this package: pure; what agents load (`model`, `words`, `paths`, `ask`, `decision`) is light. Default deny,
deny wins, and one allow rule must cover the whole act: rules are never added up, because two that are right for
themselves (this command on test hosts; these hosts for that command) would allow what neither says.
"""
