"""Who may do what: principals with their scopes, and the credentials by which they are known.

``grants``, ``principals`` and ``needs`` say what somebody may do, and decide; ``door`` asks those
who know credentials: ``tokens`` (of a file), ``jwts`` and ``signed_urls``.  No module here answers
requests.
"""
