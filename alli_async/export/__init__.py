"""Exports: every conversation with all its chats, into files.

    report = await export(client, "backup")

A **run** reads a list and writes it in **shards**, partitions of the list of about a thousand conversations. A
shard becomes one **part** (two in Parquet), a data file that is there whole or not at all. The **commit log**
has a **record** of the plan, of each shard's result and of the run's end. A shard without a record never
happened.

A run, module by module:

1. `request` checks the arguments.
2. `job` opens the destination (`destination`, in a store of `storage/`) and recovers its state:
   `commit_log.recover` is a pure function of the records (`records`). It checks that the server still knows some
   of the destination's conversations (`project`), and plans a run (`planning`).
3. `running` hands the shards to an executor: this process (`executors`) or the workers of a cluster (`dask/`).
   The shards of a run share a session, filters and a plan (`run_context`). `progress` counts what is done.
4. `shard_export` reads a shard (`shard_reader`; `undecodable` keeps JSON that cannot be decoded), splits it
   where it is dense (`cutting`), fills its parts (`shard_buffer`, `formats/`), and writes its record.
5. The last shard also takes the conversations that no other shard lists (`last_shard`): the
   conversations that an earlier run could not make whole or decode (`outstanding`), and the conversations that
   moved while the shards were read.
6. The end of the run is recorded. The manifest (`manifest`) is made of the log alone. `report` is the result.

`holdings` holds which conversations the parts have, and `reading` reads parts. `compacting`, `verifying` and
`preview` start from the same recovery. `single_file` writes one file, and `batches` makes Arrow tables without
files. `tuning` has the sizes and limits of all modules.

Layout of a destination:

    manifest.json, quarantine.jsonl, deleted.jsonl    made of the log, written last, written anew by any run
    conversations/run-00001-shard-00002.jsonl.gz      a part (in Parquet also chats/…)
    _journal/lock                                     locked while a process writes here
    _journal/clock                                    tells the storage's time, where it has no file locks
    _journal/cluster.json                             names the cluster whose workers may commit shards now
    _journal/export.json                              the spec: what the destination holds, for good
    _journal/run-00001-plan.json                      1. the plan of a run, before anything else of it
    _journal/run-00001-shard-00002.json               2. for each shard, after its part: committed, or split
    _journal/run-00001-complete.json                  3. the end of the run
    _journal/run-00001-dropped.json                   an empty record: the run was dropped, its number is used up
    .run-00001-shard-00002.jsonl.gz.partial           a temporary name, in the folder of the final file

Every record of the log holds a checksum of itself, except `dropped.json`, which has no content. The lock and
`cluster.json` are not part of the log. A shard's record holds the size and the SHA-256 of its parts.

| on disk | it means | what is done |
| --- | --- | --- |
| nothing, or the spec alone | a new destination | a full run begins |
| a plan, no end, and it is the last run | the run was stopped | it is resumed, before anything else |
| no record of a shard of such a run | the shard never happened | it is written again, its part is replaced |
| a temporary name of a run or a record | a write was stopped | it is removed |
| a part of a shard whose record names another | an attempt that came second | it is removed |
| a compaction without its end | a compaction was stopped | it is removed: its sources are all there |
| files of runs that a complete compaction replaces | a compaction was stopped later | they are removed |
| a complete run without one of its shard records | a record was lost | refused, the record is named |
| records of a run without its plan | the plan was lost | refused, the plan is named |
| a run without its end, and a later run | the end was lost | refused, the end is named |
| a run that names a run before it that is not there | a whole run was lost | refused, its plan is named |
| a record, and its part gone or of another size | the part was lost or damaged | refused, the part is named |
| a record whose checksum or fields are wrong | damaged, or of a later format | refused, the record is named |
| a finished part that no record explains | records were lost, or it is not ours | refused, and never removed |
| any other file | not ours | it is left alone |

Where anything is refused, nothing was written or removed. Content that changed under the same size is found where
it is read: by `verify`, by `compact` before it writes it on, and in a directory by a run or a compaction that only
has to say "complete".
"""

from .batches import ArrowBatches, arrow_batches
from .compacting import compact
from .job import export
from .preview import ExportPreview, plan_export
from .progress import ExportProgress
from .report import ExportReport
from .verifying import VerifyReport, verify

__all__ = [
    "ArrowBatches",
    "ExportPreview",
    "ExportProgress",
    "ExportReport",
    "VerifyReport",
    "arrow_batches",
    "compact",
    "export",
    "plan_export",
    "verify",
]
