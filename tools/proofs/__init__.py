"""``scripts/prove-*``: our promises, at length, on the real server and the real library."""
