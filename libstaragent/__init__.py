"""libstaragent: run commands on a fleet of machines, from Python."""
