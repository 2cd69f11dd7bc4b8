"""The agent of a host: the shell around `libstaragent.roles.agent`. `main` is its wiring page."""
