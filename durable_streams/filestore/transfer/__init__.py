"""All streams of a data directory, read or written by a copy: ``durable_streams.transfers``.

``reading``: files, checked to the last byte.  ``source``: a directory that nobody serves meanwhile.
``sharing``: whether a fork and its source are alike.  ``writing``: one stream's files.  ``target``:
a directory that nobody can serve before it is whole.
"""
