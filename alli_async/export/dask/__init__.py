"""The cluster executor: an export whose shards are written by the workers of a Dask cluster.

The export's process holds the lock of the destination, makes the plan, assigns shards and writes the last one. The
workers write all other shards. Both sides talk through the scheduler; what became of a shard stands in the journal
of the destination alone, which a worker writes and the export's process reads.

- `cluster`: the executor in the export's process: it assigns shards, and the shard of a lost worker again.
- `coordinator`: which workers there are, what each is doing, and its share of the budget of requests.
- `workers`: a worker's part in an export, and the functions that Dask calls in the worker's process.
- `worker_run`: how a worker writes and records one shard after another.
- `hash_key`: the key of hashed fields, which a worker reads from a file of its own.
- `messages`: what both sides send each other.
- `scheduler`: the connection to the Dask scheduler, and tasks on its workers.
- `sharing`: stores that several machines write to, and a worker's share of the rate limit.
"""
