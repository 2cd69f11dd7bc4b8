"""Fuzzing of all that reads what strangers, hosts or broken disks may write: `scripts/fuzz`, docs/fuzzing.md."""
