"""What every store promises: the tests of :mod:`durable_streams.store`.

They run on each store in ``conftest.STORES``.  A new one is added there, and passes them all.  What
is particular to one store is tested beside it.
"""
