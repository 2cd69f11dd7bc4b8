"""What whoever knows only the pin is told, however long the roster's chain has become."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agentd.central.api.access import AccessApi
from agentd.central.api.call import Reply
from agentd.central.trust import MAX_REVISIONS_TOLD, RosterBook
from libstaragent import codes
from libstaragent.model.api import Trust
from libstaragent.security.policy.model import FOUNDERS
from libstaragent.security.roster import Operator, Roster, RosterChain, digest, open_roster, sign_roster
from libstaragent.security.signed import Signed, signed_to_json
from libstaragent.security.signing import fingerprint, public_key

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
ROOT = b"r" * 32
ADMIN = b"a" * 32
FLEET = fingerprint(public_key(ROOT))


def following(before: Signed, seed: bytes) -> Signed:
    roster = open_roster(before)
    return sign_roster(msgspec.structs.replace(roster, revision=roster.revision + 1, previous=digest(before)), seed)


@pytest.fixture(scope="module")
def chain() -> list[Signed]:
    """The root's first, and more than are told by an admin."""
    first = Roster(
        root=public_key(ROOT),
        revision=1,
        previous=b"",
        issued=NOW_MS,
        valid_until=NOW_MS + DAY_MS,
        ca=(bytes(32),),
        operators=(Operator("ann", public_key(ADMIN), ("admin",)),),
        rules=(FOUNDERS,),
    )
    signed = [sign_roster(first, ROOT)]
    while len(signed) <= MAX_REVISIONS_TOLD + 1:
        signed.append(following(signed[-1], ADMIN))
    return signed


def test_whoever_knows_only_the_pin_can_join_after_more_revisions_than_rooms_carry(
    chain: list[Signed], caplog: pytest.LogCaptureFixture
) -> None:
    book = RosterBook(chain[:-1], now_ms=NOW_MS)
    with caplog.at_level(logging.WARNING):
        book.take(chain[-1], NOW_MS)
    assert "let the root sign the next" in caplog.text
    assert RosterChain(FLEET).accept_all(book.introduction(), NOW_MS).revision == len(chain)
    assert book.order().first == 3
    assert len(book.order().revisions) == MAX_REVISIONS_TOLD


def test_a_revision_of_the_root_makes_those_before_it_needless(chain: list[Signed]) -> None:
    book = RosterBook(chain, now_ms=NOW_MS)
    by_root = following(chain[-1], ROOT)
    book.take(by_root, NOW_MS)
    assert book.introduction() == (by_root,)
    by_admin = following(by_root, ADMIN)
    book.take(by_admin, NOW_MS)
    assert book.introduction() == (by_root, by_admin)
    assert RosterBook([*chain, by_root, by_admin], now_ms=NOW_MS).introduction() == (by_root, by_admin)


async def test_the_public_answer_is_written_once_a_revision(make_stack: Callable[..., Any]) -> None:
    async with make_stack() as stack:
        nothing: Any = None
        access = AccessApi(stack.central, nothing, nothing, ca="ca", room_address="", version="0")
        first: Reply = await access.trust(nothing)
        assert (await access.trust(nothing)).body is first.body
        second = stack.people.resign(stack.people.roster(stack.state.ca_sha256), stack.people.seeds["ann"])
        stack.people.revisions[-1] = second
        assert (await stack.http.post("/v1/rosters", content=signed_to_json(second))).status_code == 200
        told = msgspec.json.decode((await access.trust(nothing)).body, type=Trust)
        assert told.rosters == tuple(stack.people.revisions)
        assert msgspec.json.decode((await stack.http.get("/v1/trust")).content, type=Trust).rosters == told.rosters


def test_a_chain_without_the_roots_revision_could_not_be_joined(chain: list[Signed]) -> None:
    with pytest.raises(codes.ROSTER_SIGNER.error().__class__, match=codes.ROSTER_SIGNER.code):
        RosterChain(FLEET).accept_all(RosterBook(chain, now_ms=NOW_MS).order().revisions, NOW_MS)
