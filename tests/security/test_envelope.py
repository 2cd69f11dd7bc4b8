"""An envelope is opened as it was signed, or not at all."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.errors import Code, IntegrityError, ProtocolError, StarAgentError
from libstaragent.model.ids import new_ulid
from libstaragent.security.act_limits import MAX_WINDOW_MS
from libstaragent.security.envelope import (
    DOMAIN,
    Cancel,
    Envelope,
    Exec,
    IssueToken,
    Member,
    Signed,
    TargetList,
    TargetRoot,
    open_signed,
    sign,
    signed_from_json,
    signed_to_json,
)
from libstaragent.security.signed import MAX_PAYLOAD
from libstaragent.security.signing import fingerprint, public_key, sign_bytes

NOW_MS = 1_760_000_000_000
SEED = b"operator".ljust(32, b".")
FLEET = fingerprint(public_key(b"root".ljust(32, b".")))
MEMBER = Member(new_ulid(NOW_MS, b"agent-0001"), "web01", "hz1")
ENVELOPE = Envelope(
    id=new_ulid(NOW_MS, b"job-000001"),
    fleet=FLEET,
    operator="lin",
    act=Exec(argv=("uptime",), env={"LANG": "C", "A": "b"}, user="admin", cwd="/", umask=0o22, stdin=b"\x00\xff"),
    targets=TargetList("web01", (MEMBER,)),
    issued=NOW_MS,
    not_before=NOW_MS,
    expires=NOW_MS + 60_000,
    roster=1,
    boot_nonce=b"n" * 16,
)
ROOT_TARGETS = TargetRoot("web[01-20]", 20, b"r" * 32)
TOKEN = IssueToken(room="hz1", uses=10, ttl_ms=3_600_000, networks=("10.0.0.0/8",), labels={"a": "b"})


def with_fields(envelope: Envelope = ENVELOPE, **fields: Any) -> Envelope:
    return msgspec.structs.replace(envelope, **fields)


def with_act(**fields: Any) -> Envelope:
    return with_fields(act=msgspec.structs.replace(ENVELOPE.act, **fields))


def seal(payload: bytes) -> Signed:
    """What a signer that ignores our rules could produce: any payload, well signed."""
    return Signed(payload, public_key(SEED), sign_bytes(DOMAIN, payload, SEED))


def code_of(caught: pytest.ExceptionInfo[StarAgentError]) -> Code:
    return caught.value.code


@pytest.mark.parametrize(
    "envelope",
    [
        ENVELOPE,
        with_fields(targets=ROOT_TARGETS, boot_nonce=None),
        with_fields(act=Cancel(job=ENVELOPE.id)),
        with_fields(act=Cancel(job=ENVELOPE.id), targets=None),
        with_fields(act=TOKEN, targets=None),
        with_act(argv=("/bin/sh", "-c", "a | b"), shell=True),
    ],
)
def test_what_was_signed_is_what_is_opened(envelope: Envelope) -> None:
    assert open_signed(sign(envelope, SEED)) == envelope


def test_the_json_form_holds_base64_and_reads_back() -> None:
    signed = sign(ENVELOPE, SEED)
    text = json.loads(signed_to_json(signed))
    assert base64.b64decode(text["payload"]) == signed.payload
    assert signed_from_json(signed_to_json(signed)) == signed


def test_the_order_in_which_env_was_filled_does_not_change_the_bytes() -> None:
    assert sign(with_act(env={"A": "1", "B": "2"}), SEED) == sign(with_act(env={"B": "2", "A": "1"}), SEED)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in _leaves(part, (*path, key))]
    if isinstance(value, list):
        return [leaf for at, part in enumerate(value) for leaf in _leaves(part, (*path, at))]
    return [path]


def _altered(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bytes):
        return value + b"x"
    return "x"


PLAIN = msgspec.msgpack.decode(sign(ENVELOPE, SEED).payload)


@pytest.mark.parametrize("path", _leaves(PLAIN), ids=lambda path: ".".join(map(str, path)))
def test_an_altered_field_breaks_the_signature(path: tuple[Any, ...]) -> None:
    altered = msgspec.msgpack.decode(sign(ENVELOPE, SEED).payload)
    inner = altered
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = _altered(inner[path[-1]])
    signed = sign(ENVELOPE, SEED)
    payload = msgspec.msgpack.encode(altered)
    assert payload != signed.payload
    with pytest.raises(IntegrityError) as caught:
        open_signed(msgspec.structs.replace(signed, payload=payload))
    assert code_of(caught) is codes.SIGNATURE_INVALID


@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    signed = sign(ENVELOPE, SEED)
    field = data.draw(st.sampled_from(["payload", "key", "signature"]))
    content = bytearray(getattr(signed, field))
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        open_signed(msgspec.structs.replace(signed, **{field: bytes(content)}))


def test_a_signature_for_another_domain_is_refused() -> None:
    payload = sign(ENVELOPE, SEED).payload
    for domain in (b"", b"opsconsole roster 1\0"):
        with pytest.raises(IntegrityError):
            open_signed(Signed(payload, public_key(SEED), sign_bytes(domain, payload, SEED)))


@pytest.mark.parametrize(("key", "signature"), [(b"", b""), (b"k" * 31, b"s" * 64), (b"k" * 32, b"s" * 65)])
def test_a_key_or_signature_of_wrong_length_is_refused(key: bytes, signature: bytes) -> None:
    with pytest.raises(IntegrityError):
        open_signed(Signed(sign(ENVELOPE, SEED).payload, key, signature))


def test_a_small_order_key_is_refused() -> None:
    # With the identity point as key, S = 0 and R = identity would verify for every message under a naive verifier.
    identity = bytes([1]) + bytes(31)
    with pytest.raises(IntegrityError):
        open_signed(Signed(sign(ENVELOPE, SEED).payload, identity, identity + bytes(32)))


def test_too_large_is_refused_before_the_signature_is_looked_at() -> None:
    with pytest.raises(ProtocolError) as caught:
        open_signed(Signed(b"x" * (MAX_PAYLOAD + 1), b"", b""))
    assert code_of(caught) is codes.SIGNED_TOO_LARGE
    with pytest.raises(ProtocolError) as caught:
        signed_from_json(b" " * 1_000_000)
    assert code_of(caught) is codes.SIGNED_TOO_LARGE


def _map_header_of_16_bits(payload: bytes) -> bytes:
    return b"\xde\x00" + bytes([payload[0] & 0x0F]) + payload[1:]


def _keys_reversed(payload: bytes) -> bytes:
    return msgspec.msgpack.encode(dict(reversed(msgspec.msgpack.decode(payload).items())))


def _time_as_float(payload: bytes) -> bytes:
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(payload), "issued": float(NOW_MS)})


@pytest.mark.parametrize("rewrite", [_map_header_of_16_bits, _keys_reversed, _time_as_float])
def test_well_signed_bytes_that_are_not_canonical_are_refused(rewrite: Any) -> None:
    payload = rewrite(sign(ENVELOPE, SEED).payload)
    assert payload != sign(ENVELOPE, SEED).payload
    with pytest.raises(StarAgentError) as caught:
        open_signed(seal(payload))
    assert code_of(caught) in (codes.SIGNED_NOT_CANONICAL, codes.SIGNED_MALFORMED)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        open_signed(seal(msgspec.msgpack.encode({**PLAIN, "also": 1})))
    assert code_of(caught) is codes.SIGNED_MALFORMED


FAR = new_ulid(NOW_MS, b"other-host")
BAD_FIELDS = {
    "id": with_fields(id="01ARZ3"),
    "id case": with_fields(id=ENVELOPE.id.lower()),
    "fleet": with_fields(fleet="AB" * 32),
    "operator": with_fields(operator="a b"),
    "roster": with_fields(roster=0),
    "issued": with_fields(issued=-1),
    "not before issued": with_fields(not_before=NOW_MS - 1),
    "expires at once": with_fields(expires=NOW_MS),
    "window": with_fields(expires=NOW_MS + MAX_WINDOW_MS + 1),
    "nonce": with_fields(boot_nonce=b"short"),
    "no targets": with_fields(targets=None),
    "empty list": with_fields(targets=TargetList("web", ())),
    "long list": with_fields(
        targets=TargetList("web", tuple(Member(new_ulid(n, bytes(10)), "web", "hz1") for n in range(17)))
    ),
    "twice in list": with_fields(targets=TargetList("web", (MEMBER, MEMBER))),
    "bad member": with_fields(targets=TargetList("web", (Member("x", "web01", "hz1"),))),
    "bad member name": with_fields(targets=TargetList("web", (Member(FAR, "[/web]", "hz1"),))),
    "bad member room": with_fields(targets=TargetList("web", (Member(FAR, "web", ""),))),
    "root size": with_fields(targets=TargetRoot("web", 20, b"r" * 31)),
    "root count": with_fields(targets=TargetRoot("web", 0, b"r" * 32)),
    "expression": with_fields(targets=TargetRoot("", 20, b"r" * 32)),
    "argv empty": with_act(argv=()),
    "argv nameless": with_act(argv=("",)),
    "argv NUL": with_act(argv=("a\0b",)),
    "argv surrogate": with_act(argv=("a\udc80b",)),
    "argv long": with_act(argv=("x" * 128 * 1024,)),
    "shell argv": with_act(argv=("/bin/bash", "-c", "a"), shell=True),
    "user": with_act(user=""),
    "cwd": with_act(cwd="tmp"),
    "env name": with_act(env={"A=": "b"}),
    "env value": with_act(env={"A": "b\0"}),
    "env long": with_act(env={"A": "b" * 32 * 1024}),
    "umask": with_act(umask=0o1000),
    "stdin": with_act(stdin=bytes(64 * 1024 + 1)),
    "timeout": with_act(timeout_ms=0),
    "output": with_act(output_head=192 * 1024, output_tail=1),
    "grace": with_act(kill_grace_ms=-1),
    "cancelled job": with_fields(act=Cancel(job="x")),
    "token with targets": with_fields(act=TOKEN),
    "token room": with_fields(act=msgspec.structs.replace(TOKEN, room=""), targets=None),
    "token uses": with_fields(act=msgspec.structs.replace(TOKEN, uses=0), targets=None),
    "token ttl": with_fields(act=msgspec.structs.replace(TOKEN, ttl_ms=24 * 3_600_000 + 1), targets=None),
    "type": with_fields(roster="1"),
    "number": with_fields(expires=1 << 70),
}


@pytest.mark.parametrize("envelope", BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_field_out_of_bounds_is_neither_signed_nor_opened(envelope: Envelope) -> None:
    with pytest.raises(ProtocolError) as caught:
        sign(envelope, SEED)
    assert code_of(caught) in (codes.ENVELOPE_FIELD, codes.SIGNED_MALFORMED)
    try:
        payload = msgspec.msgpack.encode(envelope, order="deterministic")
    except (UnicodeEncodeError, OverflowError):
        return  # nobody can write these bytes
    with pytest.raises(ProtocolError) as caught:
        open_signed(seal(payload))
    assert code_of(caught) is (codes.SIGNED_MALFORMED if isinstance(envelope.roster, str) else codes.ENVELOPE_FIELD)


@given(st.binary(max_size=400))
def test_any_signed_bytes_give_a_coded_error_or_an_envelope(payload: bytes) -> None:
    try:
        opened = open_signed(seal(payload))
    except StarAgentError:
        return
    assert sign(opened, SEED).payload == payload


_any_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300)
@given(st.data())
def test_any_value_in_any_field_gives_a_coded_error_or_an_envelope(data: st.DataObject) -> None:
    plain = msgspec.msgpack.decode(sign(ENVELOPE, SEED).payload)
    path = data.draw(st.sampled_from(_leaves(PLAIN)))
    inner = plain
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = data.draw(_any_value)
    try:
        opened = open_signed(seal(msgspec.msgpack.encode(plain)))
    except StarAgentError:
        return
    assert msgspec.msgpack.decode(sign(opened, SEED).payload) == plain


@given(st.binary(max_size=300) | st.builds(lambda v: json.dumps(v).encode(), st.dictionaries(st.text(), st.text())))
def test_any_json_gives_a_coded_error_or_a_signed(data: bytes) -> None:
    try:
        signed_from_json(data)
    except ProtocolError as error:
        assert error.code is codes.SIGNED_MALFORMED


def test_deep_nesting_is_a_coded_error() -> None:
    with pytest.raises(ProtocolError):
        open_signed(seal(b"\x81\xa2id" + b"\x91" * 100_000))
    with pytest.raises(ProtocolError):
        signed_from_json(b"[" * 100_000)
