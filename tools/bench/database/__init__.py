"""How fast the store on PostgreSQL is: ``scripts/bench --database``, and ``plan`` for how long.

In one run, on one cluster of a primary with two synchronous standbys: the statement that the store
writes with, driven by nothing but a loop (``bare``), the store without HTTP (``drivers``, for the
file store as well), and nodes of the server (``served``).  ``measured`` is what comes out, against
what it should be, ``command`` what is asked for.
"""
