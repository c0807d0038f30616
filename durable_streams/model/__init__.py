"""The words that everything else is said in: offsets, paths, commands, results, errors.

Data without behaviour of its own; it imports nothing of the package.
"""
