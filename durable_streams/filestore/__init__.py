"""Streams in plain files: the store that is used if nothing else is said."""
