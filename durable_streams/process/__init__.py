"""What the command line makes of its own process: standard streams, signals, sockets.

Nothing of this is done to an application that embeds the server.
"""
