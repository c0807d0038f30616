"""Programs that measure and prove, for ``scripts/``; tests run some of them in small.

``bench``, ``simulation``, ``proofs`` and ``fuzz`` are the programs.  What lies beside them is what
they share with the tests: a server in a process of its own, what is open, what is held, what an
engine does not tell (``inside``).  Nothing here imports tests (``setup.cfg``), so that a tool runs,
and is read, without them.
"""
