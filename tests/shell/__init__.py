"""The verbs on streams of the command line."""
