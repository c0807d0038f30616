"""One program for each client that is compared; each runs by itself, with its own Python."""
