"""SeenIds is a set, however many ids there are; and its digests are the same everywhere."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alli_async._listing import seen
from alli_async._listing.seen import SeenIds, pack

id_lists = st.lists(st.lists(st.text(max_size=6), max_size=30), max_size=12)


@settings(max_examples=200, deadline=None)
@given(id_lists, st.lists(st.text(max_size=6)), st.booleans(), st.integers(0, 20))
def test_it_holds_what_a_set_holds(batches: list[list[str]], others: list[str], packed: bool, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen, "_MAX_TEXTS", most)
        patch.setattr(seen, "_LONGEST_RUN", 16)
        ids, reference = SeenIds(), set[str]()
        for number, batch in enumerate(batches):
            fresh = {each for each in batch if each not in ids}
            assert fresh == set(batch) - reference
            if packed and number % 2:
                ids.update_packed(pack(fresh))
            else:
                ids.update(fresh)
            reference |= fresh
            assert len(ids) == len(reference)
        assert all(each in ids for each in reference)
        assert all((each in ids) == (each in reference) for each in others)


def test_a_quarter_of_a_million_ids_are_kept_in_eight_bytes_each() -> None:
    ids = SeenIds()
    names = [f"Q29udmVyc2F0aW9uOjYwMDZiNTM3{number}" for number in range(250_000)]
    for start in range(0, len(names), 50):
        ids.update(names[start : start + 50])
    assert len(ids) == 250_000
    assert all(each in ids for each in names[::997])
    assert not any(each + "x" in ids for each in names[::997])


def test_packed_ids_are_sorted_digests_of_eight_bytes_and_the_same_in_every_process() -> None:
    packed = pack(["a", "b", "日本", "\ud800"])
    assert len(packed) == 32
    numbers = [int.from_bytes(packed[at : at + 8], "little") for at in range(0, 32, 8)]
    assert numbers == sorted(numbers)
    code = "from alli_async._listing.seen import pack; print(pack(['a', 'b']).hex())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == pack(["b", "a"]).hex()


def test_packed_ids_of_one_process_are_known_to_another_with_ids_of_its_own() -> None:
    ids = SeenIds()
    ids.update(["own"])
    ids.update_packed(b"")
    ids.update_packed(pack(["theirs"]))
    assert len(ids) == 2
    assert "own" in ids
    assert "theirs" in ids
    assert "nobody's" not in ids
