// What was appended to a stream, page by page: forwards as the server tells it, and backwards by
// guessing an offset that lies some way before, and going forwards from there.

import { details, records } from "./api.js";
import { Fault } from "./faults.js";

export const PAGE = 500;
const MOST = 1000;
const LEAST_SPAN = 4096;
const MOST_SPAN = 4 * 1024 * 1024;

export const parse = (offset) => offset.split("_").map(Number);
export const token = (segment, position) =>
    `${String(segment).padStart(16, "0")}_${String(position).padStart(16, "0")}`;

export class Records {
    constructor(path, known) {
        this.path = path;
        this.use(known);
        this.span = 64 * 1024;
    }

    /** Know of the stream what its details say. */
    use(known) {
        this.begin = known.begin;
        this.size = known.size_bytes ?? 0;
        const { first, count, last_sizes: sizes } = known.segments;
        this.sizes = new Map(sizes.map((size, index) => [first + count - sizes.length + index, size]));
    }

    /** Know how large it is by now, if that is told. */
    async refresh(signal) {
        try {
            this.use(await details(this.path, signal));
        } catch (error) {
            if (!(error instanceof Fault)) throw error;
        }
    }

    from(offset, signal, limit = PAGE) {
        return records(this.path, { offset, limit }, signal);
    }

    last(signal, count = PAGE) {
        return records(this.path, { last: count }, signal);
    }

    since(time, signal) {
        return records(this.path, { since: time, limit: PAGE }, signal);
    }

    /** The records right before an offset, in order; none at the beginning. */
    async before(end, signal) {
        if (end <= this.begin) return [];
        const from = this.#behind(end);
        const found = [];
        let page = { next: from, up_to_date: false };
        while (!page.up_to_date && page.next < end) {
            page = await this.from(page.next, signal, MOST);
            if (!page.records.length) break;
            for (const record of page.records) {
                if (record.end > end || record.start >= end) {
                    page.up_to_date = true;
                    break;
                }
                found.push(record);
            }
            if (found.length > 10 * MOST && this.span > LEAST_SPAN) {
                this.span = Math.max(LEAST_SPAN, this.span >> 4); // messages are smaller here
                return this.before(end, signal);
            }
        }
        if (found.length > MOST) this.span = Math.max(LEAST_SPAN, Math.floor(this.span / 2));
        else if (found.length < PAGE / 4) this.span = Math.min(2 * this.span, MOST_SPAN);
        return found;
    }

    /** An offset some way before another one. */
    #behind(end) {
        let [segment, position] = parse(end);
        if (position === 0) {
            segment--;
            position = this.sizes.get(segment) ?? 0;
        }
        const guess = token(segment, Math.max(0, position - this.span));
        return guess < this.begin ? this.begin : guess;
    }
}
