"""Tests of reading: from the bytes of a mail to drafts."""
