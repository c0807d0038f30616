"""What a store has counted since it was opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.store_contract.words import append, by, create

if TYPE_CHECKING:
    from durable_streams.store import Store


async def test_writes_are_counted_with_the_commits_that_made_them_durable(store: Store) -> None:
    before = store.numbers
    await create(store)
    for number in range(3):
        await append(store, b"some", producer=by(number))
    after = store.numbers
    assert sum(after.commits.counts) > sum(before.commits.counts)
    assert after.shared.total - before.shared.total >= 3
    assert sum(after.commits.counts) == sum(after.shared.counts)
    assert after.committed_bytes - before.committed_bytes >= 3 * len(b"some")
    assert after.open_streams == before.open_streams + 1
    assert after.waiting == 0


async def test_what_was_stored_already_is_counted_as_a_duplicate(store: Store) -> None:
    await create(store)
    await append(store, b"some", producer=by(0))
    assert store.numbers.duplicates == 0
    for _ in range(2):
        await append(store, b"some", producer=by(0))
    assert store.numbers.duplicates == 2


async def test_numbers_are_a_copy_that_stays_as_it_is(store: Store) -> None:
    await create(store)
    numbers = store.numbers
    told = (numbers.shared.total, list(numbers.commits.counts), numbers.committed_bytes)
    await append(store, b"some")
    assert (numbers.shared.total, numbers.commits.counts, numbers.committed_bytes) == told
    assert store.numbers.committed_bytes > numbers.committed_bytes


async def test_what_only_one_store_has_is_named_like_no_other(store: Store) -> None:
    names = [family.name for family in store.numbers.more]
    assert len(set(names)) == len(names)
    assert not any(name.startswith("store_") for name in names)
