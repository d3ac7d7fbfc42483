"""The spool: a local journal on disk that stands in for the inbox while MongoDB cannot commit.

    async with Spool.open(data_dir / "spool", max_bytes=1 << 30) as spool:
        await spool.adopt_dead()          # what processes that died have left behind ...
        await spool.drain(store)          # ... goes to the inbox before any door opens
        ...
        await spool.append([record])      # returns when it is on the disk: acknowledge now

What `append` accepted survives the death of the process, not the loss of the disk. It is handed to
`drain` in the order of the appends, at least once: after a crash some records come again, with the
ids they had, and the inbox drops those it knows.

On the disk::

    ROOT/lock                               held for moments, while folders are made, taken, removed
    ROOT/1735689600000-5f0c9a1e/            one folder per process; the names sort by age
        lock                                held as long as the folder's owner lives
        00000001.seg 00000002.seg ...       records, in order
    ROOT/1735689600000-5f0c9a1e-00000001.damaged    set aside for a person

A `.damaged` file is a segment as it was found; what could be read of it has been delivered. After
a repair (of the file, or of the key that opens it) put it back as FOLDER/NUMBER.seg: the next start
reads it again, and what the inbox has already is dropped there.

From what the hub calls down to the disk; only `spool` knows the event loop, the others block and
run on its one thread:

    records    what goes in, and the errors that refuse it
    spool      appends in groups, drains in order
    journal    one process's folders and segments: write, read, adopt
    segment    one file: how far it was delivered, what is wrong with it
    folder     one process's folder and the lock that says that its owner lives
    framing    the bytes of a segment
    files      writes and locks that a power cut or a second process cannot undo
"""

from hub.spool.records import Cipher, Record, SpoolError, SpoolFull
from hub.spool.spool import Spool

__all__ = ["Cipher", "Record", "Spool", "SpoolError", "SpoolFull"]
