"""The tables, and how a database comes to have them.

``streams``   one row an incarnation: its tail, and all that decides about the next write.  ``id``
              is random, as a sequence repeats itself after a restore.  ``version`` moves with every
              change but a renewed TTL.  ``layers``: of a fork, or after a restore, whose runs it
              begins with.  ``sort_key``: the segments of the path with a NUL between them, by
              which lists are sorted.  ``closed_alone``: the close brought no data, and is a record
              of its own.
``runs``      what one commit appended to one stream: where each append ends, what it was, when.
              ``before`` and ``chain``: the running checksum where it begins and ends.
``producers`` the newest claim of each, and when it was seen.
``lanes``     how far each session that writes has come, see :mod:`.fencing`.
``graves``    streams that ended: their runs are to be removed, and until when another one at the
              path (where that is empty, at any) has to begin above them.  ``kept``: the row of one
              that expired by a clock in doubt, whose runs are not removed yet.
``holds``     streams that somebody follows, on which node, and until when that counts.
``nodes``     who is there; a row is written every second.
``tokens``    those that all nodes know: ``digest`` of the text, and what it may do as JSON.
``signing_keys``  those of signed URLs that all nodes know; the one of the highest number signs.

Which version of all this a database has is a table of :mod:`.versions`.
Times are milliseconds since 1970, by the database's clock.
"""

from __future__ import annotations

from typing import Final

CREATE: Final = """
create table ds.streams (
    id bigint primary key,
    path text collate "C" not null unique,
    sort_key bytea not null,
    version bigint not null default 0,
    content_type text not null,
    first_segment bigint not null,
    segment bigint not null,
    position bigint not null,
    chain bytea not null,
    closed boolean not null default false,
    closed_by text,
    closed_alone boolean not null default false,
    size_bytes bigint not null,
    last_write_ms bigint,
    stream_seq text,
    ttl_s bigint,
    expires_at text,
    expires_at_ms bigint,
    deadline_ms bigint,
    created_ms bigint not null,
    requested text not null,
    soft_deleted boolean not null default false,
    fork_of bigint references ds.streams,
    layers text
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
create index streams_sorted on ds.streams (sort_key);
create index streams_forks on ds.streams (fork_of) where fork_of is not null;
create table ds.runs (
    stream bigint not null,
    segment bigint not null,
    start bigint not null,
    ends bigint[] not null,
    times bigint[] not null,
    claims text,
    before bytea not null,
    chain bytea not null,
    data bytea not null,
    primary key (stream, segment, start)
);
alter table ds.runs alter column data set storage external;
create table ds.producers (
    stream bigint not null,
    producer text collate "C" not null,
    epoch bigint not null,
    seq bigint not null,
    seen_ms bigint not null,
    primary key (stream, producer)
) with (fillfactor = 50);
create table ds.lanes (
    lane uuid primary key,
    batch bigint not null default 0,
    won bigint[] not null default '{}',
    node uuid not null,
    opened timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
create table ds.graves (
    stream bigint primary key,
    path text collate "C" not null,
    next_segment bigint not null,
    removed_ms bigint not null,
    swept boolean not null default false
);
create index graves_path on ds.graves (path);
create table ds.holds (
    stream bigint not null,
    node uuid not null,
    until timestamptz not null,
    primary key (stream, node)
) with (fillfactor = 50);
create table ds.nodes (
    node uuid primary key,
    name text not null,
    program text not null,
    began timestamptz not null default clock_timestamp(),
    beats bigint not null default 0,
    seen timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
create table ds.tokens (
    id text collate "C" primary key,
    digest text collate "C" not null unique,
    record text not null
);
"""
"""In a schema that is there, and empty."""

EVERYWHERE: Final = ""
"""The path of a grave that counts at every path: of a copy whose source had too many to tell."""

KEEP: Final = """
alter table ds.graves add column kept jsonb;
create table ds.signing_keys (
    id text collate "C" primary key,
    secret text not null,
    number bigint not null unique
);
"""
"""Nodes that do not know of these keep nothing, and have keys of signed URLs in files."""
