"""Times and numbers inside the file store that nobody who runs it has a reason to change.

They are settings all the same, so that a test can have others: built once, passed down.
"""

from __future__ import annotations

from dataclasses import dataclass

from durable_streams.settings import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Settings of the file store that are not public."""

    tick_s: float = 0.5
    """Between two looks at the room, the clock, checkpoints, those who wait, and streams in use."""

    uses_slice: int = 500
    """Streams looked at in one turn of the loop: less than a millisecond."""

    most_unwritten: int = 100_000
    """Streams that were used and wait for their sidecar; others are noted when used again."""

    share_writes: int = 512
    """What is applied before the loop is told: the less, the sooner; the more, the fewer writes."""

    answers_wait_s: float = 5.0
    """How long a read waits for others to be done with their files."""

    producers_bytes: int = 5 * MIB
    """What the producers of a stream may take, in their table, which every index opens with."""

    ends_bytes: int = 16 * MIB
    """Memory for the ends of appends in segments that are read."""

    looked_into_bytes: int = 16 * MIB
    """Bytes of appends that a page of records looks into for their messages; one in any case."""

    marks_bytes: int = MIB
    """Memory for where messages end in appends that have many: some 500 MiB of such appends."""

    counted_at_once: int = 1000
    """Streams that a count finds in one go: a millisecond of the loop's time."""

    listed_at_once: int = 2000
    """Paths that a walk for listing finds before it looks whether it is to go on."""

    listed_unpaused: int = 50
    """Of them, those between two pauses: what threads do, the event loop waits for."""

    list_pause_s: float = 0.0002
    """How long a pause is: so the walk takes half of a core."""

    list_idle_s: float = 900.0
    """How long the order of all paths is kept for the next who asks for a list."""

    rows_at_once: int = 8
    """Streams that are looked at on the disk in one go for a list."""

    rows_pause_s: float = 0.0005
    """How long a pause after them is, for the event loop, as above."""

    most_in_trash: int = 10_000
    """Deleted streams remembered until their files are removed, and of those that could not be."""

    most_verified: int = 50_000
    """Streams remembered as verified, by 64 bits of their path each; those opened last, in 7 MB.

    Any other one is verified once more when it is opened again before all are.  Then what was
    damaged since it was verified first is cut off, and kept aside, where it would have been called
    damage.
    """

    verify_pause_s: float = 0.002
    """At least, between the verification of two streams; and as long as the last one took."""

    verify_again_s: float = 60.0
    """Until streams that could not be verified are looked at again."""

    let_go_s: float = 10.0
    """How long an opening waits for what is being let go: that may have to wait for the disk."""

    lock_poll_s: float = 0.1
    """Between two attempts to get the lock of a data directory: half a percent of a core."""
