"""Streams of any server of the protocol, copied into a data directory or to another server.

Over HTTP, as every server has that: what servers keep on disk is their own, in formats that change,
of which some are those of a library (the reference server's metadata are msgpack in an LMDB that
only ``lmdb-js`` reads), and of hosted ones there is nothing else.

``copying``: one stream.  ``source_names``: which there are.  ``commands``: the verb ``import``.
"""
