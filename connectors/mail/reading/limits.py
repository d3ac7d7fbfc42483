"""How large, deep and long a mail may be; beyond that it is read in part, never endlessly.

A mail over :data:`MAX_MAIL_BYTES` is not read at all: whoever fetches it takes its headers and
asks :func:`~connectors.mail.reading.read_headers` for a stub.
"""

from __future__ import annotations

MAX_MAIL_BYTES = 35 * 1024 * 1024
MAX_HEADER_BYTES = 256 * 1024  # of one mail, or of one of its parts
MAX_HEADERS = 1_000
MAX_HEADER_CHARS = 32_768  # of one header that is taken apart
MAX_DEPTH = 30
MAX_MIME_PARTS = 500
MAX_OPENED = 5  # signed mails inside one
MAX_BOUNDARIES = 4 * MAX_MIME_PARTS  # looked at in one multipart, real or not
MAX_PEOPLE = 100  # of one header
MAX_REFERENCES = 50

MAX_FILE_BYTES = 25 * 1024 * 1024
MAX_FILES_BYTES = 35 * 1024 * 1024
MAX_FILES = 50
MAX_PARTS = 90  # the pipeline keeps 100
MAX_TEXT_CHARS = 60_000  # the pipeline keeps 65 536 of one text
MAX_HTML_CHARS = 60_000  # more becomes a file; the pipeline cuts at 65 536
MAX_PREVIEW_CHARS = 2_000


class MailRefused(ValueError):
    """The mail cannot be read as a mail at all; the message says why and what to do."""
