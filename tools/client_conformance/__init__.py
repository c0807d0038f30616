"""The official conformance suite for clients, run with ours: see ``__main__``."""
