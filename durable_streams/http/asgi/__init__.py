"""The ASGI front: streams in an application of Starlette, FastAPI or Django, or as one.

``application`` is what programs make and mount; ``lifespans`` and ``signals`` open it, close it
and tell it to end its live readers.  ``handler`` is the front itself: ``scopes`` says what is asked
for, ``requests`` reads it, and ``answers`` sends.  Nothing here knows aiohttp, or any ASGI server.
"""
