"""The physical limit beside which the fan-out stands: the same frames over the same number of TLS connections, and
nothing else. No core, no decoding, no store, no bus: one loop writes to every connection, the other echoes.

    bench/tls_limit.py FOLDER HOSTS DEPTH ROUNDS SENT ANSWERED       runs both sides, prints a line of JSON

    bench/tls_limit.py --handshakes PLAN FOLDER COUNT     what COUNT mutual handshakes cost, as agents of PLAN make them

Per round each connection gets DEPTH frames of SENT bytes in one write and answers DEPTH frames of ANSWERED bytes in one
write, as agents do that have DEPTH jobs at once. A frame there and back is one host-command's worth of bytes.
"""

from __future__ import annotations

__all__ = ("handshakes", "main")

import json
import os
import select
import socket
import ssl
import sys
import time
from pathlib import Path

import msgspec

from bench.simulated import Plan
from libstaragent.security.identity import create_ca, create_server
from libstaragent.security.tls import agent_context, api_context, client_context, room_context

READ_AT_ONCE = 256 * 1024


def main(folder: Path, hosts: int, depth: int, rounds: int, sent: int, answered: int) -> None:
    """Runs both sides and prints {"rate": …, "server_us": …, "client_us": …}."""
    now = time.time_ns() // 1_000_000
    ca = create_ca(fleet="0" * 64, now_ms=now)
    server = create_server(ca, names=["127.0.0.1"], now_ms=now)
    pem = folder / "limit.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(server.key + server.certificate)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    said, says = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            context = client_context(ca.certificate.decode())
            cost = _echo(listener.getsockname(), context, hosts, depth * sent, depth * answered)
            os.write(says, str(cost).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(says)
    try:
        elapsed, cpu = _serve(listener, api_context(certificate=pem, key=pem), hosts, depth, rounds, sent, answered)
        echoed = float(os.read(said, 64))
    finally:
        os.close(said)
        os.waitpid(child, 0)
    count = hosts * depth * rounds
    sys.stdout.write(
        json.dumps(
            {
                "rate": count / elapsed,
                "server_us": cpu / count * 1e6,
                "client_us": echoed / count * 1e6,
            }
        )
        + "\n"
    )


def _serve(
    listener: socket.socket, context: ssl.SSLContext, hosts: int, depth: int, rounds: int, sent: int, answered: int
) -> tuple[float, float]:
    poll = select.epoll()
    peers: dict[int, ssl.SSLSocket] = {}
    for _ in range(hosts):
        raw, _ = listener.accept()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = context.wrap_socket(raw, server_side=True)
        peer.setblocking(False)
        peers[peer.fileno()] = peer
        poll.register(peer.fileno(), select.EPOLLIN)
    data = os.urandom(depth * sent)
    whole = depth * answered
    began, cpu = time.monotonic(), time.process_time()
    for _ in range(rounds):
        left = dict.fromkeys(peers, whole)
        for peer in peers.values():
            peer.send(data)
        while left:
            for descriptor, _ in poll.poll():
                try:
                    left[descriptor] -= len(peers[descriptor].recv(READ_AT_ONCE))
                except ssl.SSLWantReadError:
                    continue
                if left[descriptor] <= 0:
                    del left[descriptor]
    result = time.monotonic() - began, time.process_time() - cpu
    for peer in peers.values():
        peer.close()
    return result


def _echo(address: tuple[str, int], context: ssl.SSLContext, hosts: int, heard: int, answered: int) -> float:
    """The CPU seconds that the echoing took, handshakes left out."""
    poll = select.epoll()
    peers: dict[int, ssl.SSLSocket] = {}
    for _ in range(hosts):
        raw = socket.create_connection(address)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = context.wrap_socket(raw, server_hostname="127.0.0.1")
        peer.setblocking(False)
        peers[peer.fileno()] = peer
        poll.register(peer.fileno(), select.EPOLLIN)
    data = os.urandom(answered)
    got = dict.fromkeys(peers, 0)
    cpu = time.process_time()
    while peers:
        for descriptor, _ in poll.poll():
            peer = peers[descriptor]
            try:
                part = peer.recv(READ_AT_ONCE)
            except ssl.SSLWantReadError:
                continue
            except OSError:
                part = b""
            if not part:
                poll.unregister(descriptor)
                del peers[descriptor]
                peer.close()
                continue
            got[descriptor] += len(part)
            if got[descriptor] >= heard:
                got[descriptor] -= heard
                peer.send(data)
    return time.process_time() - cpu


def handshakes(plan_path: Path, folder: Path, count: int) -> None:
    """Mutual handshakes and nothing else; prints {"rate": a second of one core, "server_us": …}."""
    plan = msgspec.json.decode(plan_path.read_bytes(), type=Plan)
    ca_pem = Path(plan.ca).read_text()
    state = Path(plan.ca).parent
    server = room_context(certificate=state / "room.pem", key=state / "room.pem", ca_pem=ca_pem)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for number in range(count):
                entry = plan.agents[number % len(plan.agents)]
                context = agent_context(certificate=Path(entry.certificate), key=Path(plan.key), ca_pem=ca_pem)
                raw = socket.create_connection(listener.getsockname())
                with context.wrap_socket(raw, server_hostname="127.0.0.1") as peer:
                    peer.recv(1)
            status = 0
        finally:
            os._exit(status)
    cpu = 0.0
    for _ in range(count):
        raw, _ = listener.accept()
        began = time.process_time()
        with server.wrap_socket(raw, server_side=True) as peer:
            peer.getpeercert()
            peer.send(b"1")
        cpu += time.process_time() - began
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("the side of the agents failed")
    listener.close()
    sys.stdout.write(json.dumps({"rate": count / cpu, "server_us": cpu / count * 1e6}) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "--handshakes":
        handshakes(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
        sys.exit()
    main(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:]))  # type: ignore[call-arg]
