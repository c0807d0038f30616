"""The bytes on disk: each format is specified in the docstring of the module that packs it."""
