"""The engine: one event loop owns all stream state; threads write, sync and read cold files."""
