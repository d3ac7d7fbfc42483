"""Files of messages: fetched, looked at, made safe, thumbnailed, and made to fit where they go.

In the order in which a file passes: ``safe_fetch`` (connectors' way to their vendor's files),
``downloads`` (bounded reading), ``sniffing`` (what the bytes are), ``scanning`` (the hook for
scanners), ``pictures`` and ``picture_process`` (re-encoding in a process of its own), ``keeping``
(blobs), ``worker`` (the job that does all that), ``outgoing`` (agents' uploads, made ready to
leave), ``fitting`` (copies for channels with limits).
docs/decisions/0011-media.md says why it is so.
"""
