"""Files: formats, the journal, the stream directories and recovery.

Everything here is blocking code that runs in threads or before the event loop serves; nothing
imports asyncio or HTTP.  All system calls go through ``disk.Disk``.
"""
