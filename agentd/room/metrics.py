"""A room's counters for Prometheus.

Not here: who asks (`central.api.system` where central and room are one process). Rules: read when asked for, from what
is counted anyway.
"""

from __future__ import annotations

__all__ = ("RoomMetrics",)

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from agentd.room.server import Room


class RoomMetrics:
    """A collector of prometheus_client."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for."""
        room = self._room
        outputs, files = room.core.outputs, room.core.files
        labels = ("room",)
        for name, text, value in (
            ("turned_away", "Connections closed before TLS because too many came at once", room.refused),
            ("failed_handshakes", "Connections that did not finish TLS", room.failed_handshakes),
            ("received_bytes", "Of the agent protocol, without TLS", room.bytes_in),
            ("sent_bytes", "Of the agent protocol, without TLS", room.bytes_out),
            ("spared_output_bytes", "Of outputs that central had already, or that were reduced", outputs.spared),
            (
                "forgotten_outputs",
                "Outputs no longer remembered: they will be sent again",
                outputs.sent.forgotten,
            ),
            ("unanswered_outputs", "Results that central asked for again and that agents repeat", outputs.unanswered),
            ("asked_pieces", "Pieces of files that central was asked for", files.asked),
            ("given_pieces", "Pieces of files that were sent to hosts", files.given),
            ("refused_pieces", "Pieces of files that a host asked for without an open job for them", files.refused),
            ("put_off_pieces", "Pieces of files that a host has to ask for again", files.put_off),
        ):
            counter = CounterMetricFamily(f"opsconsole_room_{name}", text, labels=labels)
            counter.add_metric((room.core.room,), value)
            yield counter
        for name, text, value in (
            ("connections", "TLS connections that stand", room.connections),
            ("reading_paused", "Connections not read because central is behind", room.reading_paused),
            ("unfinished_bytes", "Of frames of agents that have not come whole", room.unfinished_bytes),
            ("kept_piece_bytes", "Of files, kept for other hosts of the same job", files.kept_bytes),
        ):
            gauge = GaugeMetricFamily(f"opsconsole_room_{name}", text, labels=labels)
            gauge.add_metric((room.core.room,), value)
            yield gauge
