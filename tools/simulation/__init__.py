"""``scripts/simulate``: the real engine on a disk, a clock and threads that are not real."""
