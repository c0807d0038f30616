"""Streams in plain files: the store that is used if nothing else is said."""

from durable_streams.platforms import check as _check

_check()  # before anything is imported that some systems have not
