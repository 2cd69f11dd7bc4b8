"""Central's API as a library, on asyncio and trio; without ``async`` it is `libstaragent.sync`.

Where to look: `fleet` (begin here), `job`, `events`, `output` for users; `context` (which fleet), `session` (login),
`submission` (what is signed), `transport` and `answers` (HTTP) below them.
"""
