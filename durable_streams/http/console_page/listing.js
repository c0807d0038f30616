// Streams by their paths. The server lists below a prefix of whole segments, in order, from behind any
// path: so a part of a segment, and the segments of one level, are found with few requests.

import { list } from "./api.js";

const MOST_CHILDREN = 100;
const LAST = "\u{10FFFF}";

/** Pages of the streams whose paths begin with a text, from behind a path on: {rows, next}. */
export async function* pages(text, size, signal, behind = "") {
    const { prefix, part } = split(text);
    const begin = joined(prefix, part);
    let after = behind || (part ? begin : "");
    let rows = [];
    if (part && !behind) {
        const own = await list({ prefix: begin, limit: 1 }, signal);
        rows = own.streams.filter((row) => row.path === begin);
    }
    while (after !== null) {
        const page = await list({ prefix, after, limit: size - rows.length }, signal);
        const fits = part ? page.streams.filter((row) => row.path.startsWith(begin)) : page.streams;
        after = fits.length < page.streams.length ? null : page.next;
        rows.push(...fits);
        if (rows.length < size && after !== null) continue;
        yield { rows, next: after };
        rows = [];
    }
}

/**
 * The first `most` by an order among all whose paths begin with a text; `told({rows, count, isAll})`
 * of them after each page, until it returns true. No more rows are kept than those.
 */
export async function foremost(text, order, most, signal, told) {
    let rows = [];
    let count = 0;
    for await (const page of pages(text, 1000, signal)) {
        count += page.rows.length;
        rows = rows.concat(page.rows).sort(order).slice(0, most);
        if (told({ rows, count, isAll: page.next === null })) return;
    }
}

/**
 * The next segments below a path that begin with a text, or go on behind one: {found, next}, where
 * `next` is what to go on behind, if there may be more.
 */
export async function children(path, signal, { part = "", behind = "" } = {}) {
    const found = [];
    const begin = joined(path, part);
    let after = behind || path;
    if (part && !behind) {
        const { streams: [row, other] } = await list({ prefix: begin, limit: 2 }, signal);
        if (row) found.push(child(begin, row, other));
        after = `${begin}/${LAST}`;
    }
    while (found.length < MOST_CHILDREN) {
        const page = await list({ prefix: path, after, limit: 2 }, signal);
        const [row, other] = page.streams;
        if (row && !row.path.startsWith(part ? begin : "")) return { found };
        if (row) {
            const above = path ? path.length + 1 : 0;
            const own = row.path.slice(0, above) + row.path.slice(above).split("/")[0];
            found.push(child(own, row, other));
            after = `${own}/${LAST}`;
        } else if (page.next === null) return { found };
        else after = page.next;
    }
    return { found, next: after };
}

/** What is at a path, of the first two streams at it or below. */
const child = (path, row, other) => ({
    path,
    row: row.path === path ? row : null,
    hasBelow: row.path !== path || (other?.path.startsWith(`${path}/`) ?? false),
});

/** "chat/ro" is what begins with "ro" below "chat". */
export function split(text) {
    const at = text.lastIndexOf("/");
    return { prefix: text.slice(0, Math.max(0, at)).replace(/^\/+|\/+$/g, ""), part: text.slice(at + 1) };
}

const joined = (prefix, part) => (prefix && part ? `${prefix}/${part}` : prefix || part);
