"""Trust, enrolment, tokens, logins and rosters over HTTP: how strangers become known.

Not here: the rules (`central.joining`, `central.access`, `central.trust`). Rules: what needs no login proves itself by
a token, an envelope, a signed challenge or a signed roster, or is public.
"""

from __future__ import annotations

__all__ = ("AccessApi",)

import msgspec

from agentd.central.access import Access
from agentd.central.api.call import Call, Reply, read_json
from agentd.central.audit import Claim
from agentd.central.joining import Joining
from agentd.central.service import Central
from libstaragent import codes
from libstaragent.model.api import Enrolment, LoginRequest, RosterTaken, Trust
from libstaragent.security.login import Challenge
from libstaragent.security.signed import MAX_JSON, signed_from_json

# A certificate request, a token and facts.
MAX_ENROLMENT = 128 * 1024
MAX_LOGIN = 8 * 1024

_encode = msgspec.json.Encoder().encode
_enrolment = msgspec.json.Decoder(Enrolment)
_login = msgspec.json.Decoder(LoginRequest)
_challenge = msgspec.msgpack.Decoder(Challenge)


class AccessApi:
    """See the module. `ca` is the PEM of the fleet's CA, `room_address` where agents connect."""

    def __init__(
        self, central: Central, access: Access, joining: Joining, *, ca: str, room_address: str, version: str
    ) -> None:
        self._central = central
        self._access = access
        self._joining = joining
        self._ca = ca
        self._room_address = room_address
        self._version = version
        self._trust: tuple[int, bytes] = (0, b"")

    async def trust(self, call: Call) -> Reply:
        """GET /v1/trust"""
        book = self._central.trust
        revision, encoded = self._trust
        if revision != book.newest.revision:
            # Anybody may ask, as often as he likes: it is written once a revision.
            trust = Trust(
                rosters=book.introduction(), ca=self._ca, room_address=self._room_address, version=self._version
            )
            revision, encoded = self._trust = book.newest.revision, _encode(trust)
        return Reply(encoded)

    async def enrol(self, call: Call) -> Reply:
        """POST /v1/enrol"""
        request = await call.value(_enrolment, MAX_ENROLMENT)
        call.claim = Claim(act="enrol", text=request.name)
        return Reply(await self._joining.enrol(request, address=call.address), status=201)

    async def issue(self, call: Call) -> Reply:
        """POST /v1/tokens"""
        signed = signed_from_json(await call.body(MAX_JSON))
        call.claim = Claim(signed)
        return Reply(await self._joining.issue(signed, source=call.address), status=201)

    async def ask(self, call: Call) -> Reply:
        """GET /v1/login"""
        return Reply(self._access.ask(call.text("operator")))

    async def log_in(self, call: Call) -> Reply:
        """POST /v1/login"""
        request = read_json(_login, await call.body(MAX_LOGIN))
        call.claim = Claim(request.answer, "login")
        try:
            # Only to see what was asked; `check_answer` judges the same bytes.
            asked = _challenge.decode(request.answer.payload)
        except (msgspec.MsgspecError, ValueError):
            raise codes.LOGIN_REFUSED.error("the answer is no challenge") from None
        session = await self._access.log_in(request.answer, asked, request.ttl_ms, source=call.address)
        return Reply(session, status=201)

    async def roster(self, call: Call) -> Reply:
        """POST /v1/rosters"""
        signed = signed_from_json(await call.body(MAX_JSON))
        call.claim = Claim(signed, "roster")
        return Reply(RosterTaken(await self._central.take_roster(signed, source=call.address)))
