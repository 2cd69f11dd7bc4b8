"""The agent wire, sans-I/O: limits, frames, messages, connection."""
