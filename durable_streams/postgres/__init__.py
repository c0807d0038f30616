"""Streams in a replicated PostgreSQL: any number of nodes, none of which keeps anything but caches.

A node reads a stream's row, decides by the same rules as every store, and writes with one statement
that compares what it read and sets what it decided, for many streams at once, in one commit that a
quorum of the database's nodes has on its disks.
"""
