"""Storage: where an export's files are kept.

A store holds two kinds of files, by names relative to its root with `/` between their parts:

- a part: a data file. It is written through a sink and becomes visible, whole, when the sink is committed;
- a record: a small file of the commit log, written in one piece. By default one that exists is never replaced.

Modules:
    store: The `Store` and `Sink` protocols and their errors. Everything else in `export` sees only these.
    directory: A directory. A part is a temporary file in its folder: write, fsync, rename, fsync of the folder.
    object_store: A prefix of a bucket (S3, GCS, Azure), through obstore. A part is spooled to the local disk and
        uploaded under a unique name.
    files: fsync, permission bits and new files, on every platform and file system.
    locking: Locks on an open file, which the system releases when the process ends.
    lease: A lock that its holder renews and that expires, for storage without file locks.
    lease_files: What a lease is kept in: an object of a bucket, or files of a network share.
    object_errors: obstore's exceptions as one clear line. No credential of an address is shown.
    addresses: A destination as the user gave it: a local path or an address.
    opening: The store of a destination.

Every method of a store blocks; the caller runs it in a worker thread. A store's refusal is an `ExportError`,
which names the file or the object and the reason.
"""
