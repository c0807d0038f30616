"""What clients ask for, by chance: producers' claims, lifetimes, and where to fork."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.model.commands import FOREVER, ForkRequest, Lifetime, ProducerClaim
from durable_streams.model.offsets import ZERO, Offset
from tools.simulation.contents import JSON, first_messages
from tools.simulation.history import Fate, Incarnation, Wanted

if TYPE_CHECKING:
    from random import Random

    from durable_streams.model.paths import StreamPath


def fork_request(
    random: Random, path: StreamPath, source: Incarnation
) -> tuple[ForkRequest, Wanted]:
    """Where to fork: at the tail, behind an append, or inside one."""
    known = [a for a in source.attempts.values() if a.fate is Fate.DONE and a.end is not None]
    chance = random.random()
    first = source.first_segment
    if first is not None and chance < 0.05:
        return ForkRequest(path, ZERO), Wanted(source, Offset(first, 0), exactly=True)
    if not known or chance < 0.3:
        least = max([ZERO, *source.known_ends()])
        return ForkRequest(path), Wanted(source, least, exactly=False)
    attempt = random.choice(known)
    end = attempt.end
    assert end is not None
    if chance < 0.6:
        return ForkRequest(path, end), Wanted(source, end, exactly=True)
    size = len(attempt.wire)
    start = Offset(end.segment, end.position - size)
    if source.content_type == JSON:
        count = random.randrange(1, attempt.wire.count(b",") + 1)
        size = len(first_messages(attempt.wire, count))
        begin = start
    else:
        size = random.randrange(1, size + 1)
        inside = random.choice((0, random.randrange(size)))
        begin = Offset(start.segment, start.position + inside)
        count = size - inside
        if inside and random.random() < 0.5:
            count, size = 0, inside
    point = Offset(start.segment, start.position + size)
    return ForkRequest(path, begin, count), Wanted(source, point, exactly=True)


def some_claim(random: Random, living: Incarnation) -> ProducerClaim | None:
    chance = random.random()
    if chance < 0.5:
        return None
    name = random.choice(("p", "q"))
    if random.random() < 0.3:  # of two of these, a table with a small journal is full
        name = f"once-{random.randrange(10**6):0250}"
    claims = living.producers.setdefault(name, [])
    if claims and chance < 0.55:
        return random.choice(claims)
    if claims and chance < 0.95:
        claim = ProducerClaim(name, claims[-1].epoch, claims[-1].seq + 1)
    else:
        claim = ProducerClaim(name, claims[-1].epoch + 1 if claims else 0, 0)
    claims.append(claim)
    return claim


def some_lifetime(random: Random, now_ms: int) -> Lifetime:
    chance = random.random()
    if chance < 0.15:
        instant = now_ms + random.choice((20_000, 4_000_000))
        return Lifetime(None, f"t{instant}", instant)
    return Lifetime(random.choice((30, 3000))) if chance < 0.3 else FOREVER
