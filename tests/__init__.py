"""The tests: one file per module of the package, in the folders of the package.

Beside them, what needs more than one module: ``e2e`` (the real server, in a process of its own,
and the proofs of ``tools/`` in small), ``conformance``, ``browser``, ``yjs``, ``compatibility`` and
``caches`` (other people's programs), ``hostile`` and ``fuzz`` (bytes that nobody should send),
``simulation`` (power cuts).
"""
