// Looking through a stream for a text: page by page, newest first or oldest first, with rests in which
// the page can do other things. No more is in memory than a page of records and the message at hand.

import { read } from "./api.js";
import { messages } from "./content.js";
import { pause } from "./parts.js";
import { decode } from "./text.js";

export const MOST_FOUND = 1000;
const REST_MS = 4;
const WORK_MS = 12;

/** What a text is looked for with: each word has to be there; "/…/" is a regular expression. */
export function matcher(text) {
    const pattern = /^\/(.+)\/([i]?)$/.exec(text);
    if (pattern) {
        const expression = new RegExp(pattern[1], pattern[2]);
        return (said) => expression.test(said);
    }
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    return (said) => {
        const low = said.toLowerCase();
        return words.every((word) => low.includes(word));
    };
}

/**
 * Look from `start`, an offset, on or back. `found(record)` is told of each, `told({bytes})` how much
 * was looked through. Returns where it stopped: "end", "enough", or an offset to go on from.
 */
export async function scan({ records, isJson, start, back, matches, signal, found, told }) {
    const state = { count: 0, bytes: 0, rested: performance.now() };
    const look = (page) => lookThrough(page, { records, isJson, matches, signal, told, state });
    let at = start;
    for (;;) {
        let page;
        if (back) {
            page = await records.before(at, signal);
            if (!page.length) return "end";
            at = page[0].start;
        } else {
            const { records: some, next, up_to_date: isLast } = await records.from(at, signal);
            page = some;
            at = isLast ? "" : next;
        }
        const hits = await look(page);
        for (const record of back ? hits.reverse() : hits) {
            found(record);
            if (++state.count >= MOST_FOUND) return "enough";
        }
        if (at === "") return "end";
    }
}

async function lookThrough(page, { records, isJson, matches, signal, told, state }) {
    const hits = [];
    let left = page.filter((record) => record.size > 0);
    while (left.length) {
        const answer = await read(records.path, { offset: left[0].start }, signal);
        let taken = 0;
        for await (const [record, bytes] of messages(answer, left, isJson)) {
            taken++;
            state.bytes += record.size;
            if (matches(decode(bytes))) hits.push(record);
            if (performance.now() - state.rested > WORK_MS) {
                told({ bytes: state.bytes, found: state.count + hits.length });
                await pause(REST_MS, signal);
                state.rested = performance.now();
            }
        }
        if (!taken) break;
        left = left.slice(taken);
    }
    told({ bytes: state.bytes, found: state.count + hits.length });
    return hits;
}
