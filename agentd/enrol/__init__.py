"""How a host gets its identity: two short-lived processes, because X.509 costs more memory than the whole agent."""
