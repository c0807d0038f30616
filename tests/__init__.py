"""The tests; one file per module of the package, plus ``e2e`` and ``conformance``."""
