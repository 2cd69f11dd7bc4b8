"""Jobs and their targets: states, journal, spool, output."""
