// Streams by their paths. The server lists below a prefix of whole segments, in order, from behind any
// path: so a part of a segment, and the segments of one level, are found with few requests.

import { list } from "./api.js";

export const MOST_SORTED = 5000;
const MOST_CHILDREN = 200;
const LAST = "\u{10FFFF}";

/** {rows, next}: the first streams whose paths begin with a text. */
export async function some(text, most, signal) {
    const rows = [];
    const { prefix, part } = split(text);
    let after = part ? joined(prefix, part) : "";
    if (part) {
        const own = await list({ prefix: joined(prefix, part), limit: 1 }, signal);
        rows.push(...own.streams.filter((row) => row.path === joined(prefix, part)));
    }
    for (;;) {
        const page = await list({ prefix, after, limit: Math.min(1000, most - rows.length) }, signal);
        const begin = joined(prefix, part);
        const fits = part ? page.streams.filter((row) => row.path.startsWith(begin)) : page.streams;
        rows.push(...fits);
        if (fits.length < page.streams.length || page.next === null) return { rows, next: null };
        if (rows.length >= most) return { rows, next: page.next };
        after = page.next;
    }
}

/** "chat/ro" is what begins with "ro" below "chat". */
function split(text) {
    const at = text.lastIndexOf("/");
    return { prefix: text.slice(0, Math.max(0, at)).replace(/^\/+|\/+$/g, ""), part: text.slice(at + 1) };
}

const joined = (prefix, part) => (prefix ? `${prefix}/${part}` : part);

/** {found, isAll}: the next segments below a path, as far as there are not too many. */
export async function children(path, signal) {
    const found = [];
    let after = path;
    while (found.length < MOST_CHILDREN) {
        const page = await list({ prefix: path, after, limit: 2 }, signal);
        const row = page.streams.find((one) => one.path !== path);
        if (!row) {
            if (page.next === null) return { found, isAll: true };
            after = page.next;
            continue;
        }
        const begin = path ? `${path}/` : "";
        const own = begin + row.path.slice(begin.length).split("/")[0];
        const other = page.streams.find((one) => one.path !== path && one.path !== row.path);
        found.push({
            path: own,
            row: row.path === own ? row : null,
            hasBelow: row.path !== own || (other?.path.startsWith(`${own}/`) ?? false),
        });
        after = `${own}/${LAST}`;
    }
    return { found, isAll: false };
}

/** The same for what somebody types: whole segments, and perhaps the beginning of one. */
export async function matching(top, text, signal) {
    const { prefix, part } = split(text);
    if (!part) return children(top, signal);
    const { found, isAll } = await children(prefix, signal);
    return { found: found.filter((one) => one.path.startsWith(joined(prefix, part))), isAll };
}
