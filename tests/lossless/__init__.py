"""A judge of everything that reads lists: no conversation is lost, invented or given twice.

case.py      what a trial consists of: a server, marks on rows, faults, a history, a reader
draws.py     hypothesis strategies for cases
truth.py     what the sandbox holds, and which rows match the filters, at each point of a trial
history.py   the changes that happen while the reader reads
readers.py   the readers, through the public API only
excuses.py   what a case allows to be missing or to fail
judge.py     compares what was read with the truth
trial.py     runs one case
examples.py  cases in which a reader failed once
hunt.py      runs cases with fresh seeds until a time is over
"""
