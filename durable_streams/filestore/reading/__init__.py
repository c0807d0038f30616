"""Reads: which bytes of which files, or of memory, answer an offset."""
