"""The cluster executor: an export whose shards are written by the workers of a Dask cluster.

The export's process holds the lock of the destination, makes the plan, assigns shards and writes the last one. The
workers write all other shards. Both sides talk through the scheduler; what became of a shard stands in the journal
of the destination alone, which a worker writes and the export's process reads.

- `cluster`: what the export's process does: it assigns shards, and assigns the shard of a lost worker again.
- `coordinator`: which workers there are, what each is doing, and its share of the budget of requests.
- `workers`: what a worker does, as functions that Dask calls in the worker's process.
- `messages`: what both sides send each other.
- `scheduler`: the connection to the Dask scheduler, and tasks on its workers.
- `sharing`: stores that several machines write to, and a worker's share of the rate limit.
"""
