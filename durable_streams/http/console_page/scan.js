// Looking through a stream for a text, newest first: page by page, with rests in which the page can do
// other things. No more is in memory than a page of records and the message at hand.

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

/** One that can be stopped, and goes on where it was: all from `at` on was looked through. */
export class Scan {
    at = "";
    bytes = 0;
    isAll = false;

    /** `told(bytes)`: how much was looked through by now; `found`: those that fit. */
    constructor(records, isJson, matches, told) {
        Object.assign(this, { records, isJson, matches, told, found: [] });
    }

    /** Go on, from the end if it is new: to the beginning of the stream, or until that is enough. */
    async run(signal) {
        const most = this.found.length + MOST_FOUND;
        if (!this.at) {
            await this.records.refresh(signal);
            this.at = (await this.records.last(signal, 1)).next;
        }
        while (!this.isAll) {
            const page = await this.records.before(this.at, signal);
            const hits = await this.#lookThrough(page, signal);
            signal.throwIfAborted();
            for (const record of page.reverse()) {
                this.at = record.start;
                this.bytes += record.size;
                if (hits.has(record) && this.found.push(record) === most) return;
            }
            this.isAll = page.length === 0;
            this.told(this.bytes);
        }
    }

    async #lookThrough(page, signal) {
        const hits = new Set();
        let left = page.filter((record) => record.size > 0);
        let size = this.bytes;
        let rested = performance.now();
        while (left.length) {
            const answer = await read(this.records.path, { offset: left[0].start }, signal);
            let taken = 0;
            for await (const [record, bytes] of messages(answer, left, this.isJson)) {
                taken++;
                size += record.size;
                if (this.matches(decode(bytes))) hits.add(record);
                if (performance.now() - rested > WORK_MS) {
                    await pause(REST_MS, signal);
                    this.told(size);
                    rested = performance.now();
                }
            }
            if (!taken) break;
            left = left.slice(taken);
        }
        return hits;
    }
}
