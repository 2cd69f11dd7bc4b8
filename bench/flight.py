"""Jobs in flight while things fail: signed ahead of sending, sent until they are acknowledged, read back at the end.

Not here: what fails (`bench.faults`), what is right (`bench.books`). Rules: a submission that is not answered is sent
again, the same bytes, until it is; the job's id makes that one job.
"""

from __future__ import annotations

__all__ = ("Flight",)

import http.client
import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench.books import Order, command
from bench.fleet import Client, ControlPlane, Refused, new_id, wall_ms
from bench.hosts import Host, Hosts
from libstaragent.model.api import TargetPage, TargetView
from libstaragent.security.acts import Exec, TargetList
from libstaragent.security.envelope import signed_to_json

SENDERS = 8
# One who is refused or not answered tries again so soon; a restart takes about a second.
AGAIN_SECONDS = 0.1
TIMEOUT_MS = 60_000
TEXT_BYTES = (8, 200)


class Flight:
    """See the module.

    :param durations: (share, lowest, highest) in seconds each; what is left ends at once.

    Attributes:
        orders: those that were acknowledged. again: submissions that had to be repeated. refused: with what they were
            refused for good.
    """

    def __init__(
        self,
        plane: ControlPlane,
        hosts: Hosts,
        record: Path,
        *,
        seed: int,
        rate: float,
        targets: int,
        ttl_ms: int,
        durations: Sequence[tuple[float, float, float]],
    ) -> None:
        self._plane = plane
        self._hosts = hosts
        self._record = record
        self._rng = random.Random(seed)
        self._rate = rate
        self._targets = targets
        self._ttl_ms = ttl_ms
        self._durations = durations
        self._lock = threading.Lock()
        self.orders: list[Order] = []
        self.again = 0
        self.refused: list[tuple[Order, str]] = []

    def fly(self, *, seconds: float | None = None, jobs: int | None = None) -> None:
        """Send at the rate for so long, or so many."""
        began = time.monotonic()
        numbers = iter(range(jobs)) if jobs is not None else itertools.count()

        def turns() -> Iterator[float]:
            for number in numbers:
                at = began + number / self._rate
                if seconds is not None and at > began + seconds:
                    return
                yield at

        schedule = turns()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._work(schedule)
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=work, daemon=True) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def settle(self, within: float) -> list[Order]:
        """Wait until every job has ended; those that have not by then."""
        until = time.monotonic() + within
        client = self._plane.reader()
        left = list(self.orders)
        while left and time.monotonic() < until:
            left = [order for order in left if _open(client, order)]
            if left:
                time.sleep(1.0)
        client.close()
        return left

    def read(self) -> Iterator[tuple[Order, tuple[TargetView, ...]]]:
        """Each job with its targets, outputs and all, as the control plane tells it."""
        client = self._plane.reader()
        for order in self.orders:
            path = f"/v1/jobs/{order.job}/targets?output=1&limit=100"
            try:
                yield order, msgspec.json.decode(client.get(path), type=TargetPage).targets
            except Refused as error:
                if error.status != 404:
                    raise
                yield order, ()
        client.close()

    def _work(self, schedule: Iterator[float]) -> None:
        client: Client | None = None
        while True:
            with self._lock:
                at = next(schedule, None)
                if at is None:
                    break
            time.sleep(max(0.0, at - time.monotonic()))
            order, body = self._next()
            client = self._send(client, order, body)
        if client is not None:
            client.close()

    def _next(self) -> tuple[Order, bytes]:
        with self._lock:
            rng = self._rng
            chosen: list[Host] = rng.sample(self._hosts.all, min(len(self._hosts), self._targets))
            seconds, draw = 0.0, rng.random()
            for share, low, high in self._durations:
                if draw < share:
                    seconds = round(rng.uniform(low, high), 3)
                    break
                draw -= share
            status = rng.choice((0, 0, 0, 1, 7, 137))
            text = rng.randbytes(rng.randint(*TEXT_BYTES) // 2).hex()
        job = new_id()
        act = Exec(argv=command(self._record, seconds, status, text), timeout_ms=TIMEOUT_MS)
        members = tuple(host.member for host in chosen)
        listed = TargetList(",".join(member.name for member in members), members)
        signed = self._plane.sign(act, listed, job=job, ttl_ms=self._ttl_ms)
        owners = {host.member.agent: host.owner for host in chosen}
        return Order(job, owners, status, text, wall_ms()), signed_to_json(signed)

    def _send(self, client: Client | None, order: Order, body: bytes) -> Client | None:
        while True:
            try:
                client = client or self._plane.client()
                client.post("/v1/jobs", body)
            except Refused as error:
                if error.status < 500 and error.status != 429:
                    with self._lock:
                        self.refused.append((order, str(error)))
                    return client
            except (OSError, http.client.HTTPException):
                if client is not None:
                    client.close()
                client = None
            else:
                with self._lock:
                    self.orders.append(order)
                return client
            with self._lock:
                self.again += 1
            time.sleep(AGAIN_SECONDS)


def _open(client: Client, order: Order) -> bool:
    return msgspec.json.decode(client.get(f"/v1/jobs/{order.job}"))["finished_ms"] is None
