"""``scripts/fuzz``, and what it shares with the tests that do the same with hypothesis."""
