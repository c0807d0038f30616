// The messages that a list has: a run of records without gaps, longer at either end as it is needed,
// or as more comes. It has a bound: what is far from where one looks goes, and can be had again.

import { read } from "./api.js";
import { Fault, isAbort } from "./faults.js";
import { pause } from "./parts.js";
import { parse, Records } from "./records.js";

const MOST_ROWS = 150_000;
const MOST_FOLLOWED = 20_000;
const PAGE_FOLLOWED = 1000;
const PACE_MS = 250;
const SETTLE_MS = 60;
const AGAIN_MS = 1000;

export class Feed {
    /** `changed(added)`: the rows are others; so many more (or fewer) are before those there were. */
    constructor(path, known, contents, changed) {
        this.records = new Records(path, known);
        this.path = path;
        this.contents = contents;
        this.changed = changed;
        this.rows = [];
        this.next = known.begin;
        this.isClosed = false;
        this.hasEarlier = false;
        this.hasLater = false;
        this.recent = [];
    }

    async atEnd(signal) {
        this.#begin(await this.records.last(signal), true);
    }

    async atBeginning(signal) {
        this.#begin(await this.records.from("-1", signal), false);
    }

    /** Begin at an offset, with a little of what is before it; the index of the row that it is in. */
    async at(offset, signal) {
        if (offset === "-1") return this.atBeginning(signal).then(() => 0);
        this.#begin(await this.records.from(offset, signal), true);
        return this.#withEarlier(signal);
    }

    /** Begin at the first message at a time or later; its index. */
    async since(time, signal) {
        this.#begin(await this.records.since(time, signal), true);
        return this.#withEarlier(signal);
    }

    async #withEarlier(signal) {
        const first = this.rows[0]?.start;
        await this.earlier(signal);
        const index = this.rows.findIndex((row) => row.start === first);
        return index < 0 ? this.rows.length - 1 : index;
    }

    #begin(page, hasEarlier) {
        this.rows = page.records;
        this.next = page.next;
        this.isClosed = page.closed;
        this.hasLater = !page.up_to_date;
        const first = this.rows[0]?.start ?? page.next;
        this.hasEarlier = hasEarlier && first > this.records.begin;
        this.recent = [];
        this.changed(0);
    }

    /** Have some of what is before. */
    async earlier(signal) {
        if (!this.hasEarlier) return;
        const first = this.rows[0]?.start ?? this.next;
        const found = await this.records.before(first, signal);
        if (signal.aborted || (this.rows[0]?.start ?? this.next) !== first) return;
        this.hasEarlier = found.length > 0 && found[0].start > this.records.begin;
        this.rows = found.concat(this.rows);
        if (this.rows.length > MOST_ROWS) {
            this.rows.length = MOST_ROWS;
            this.next = this.rows.at(-1).end;
            this.hasLater = true;
            this.isClosed = false;
        }
        this.changed(found.length);
    }

    /** Have some of what is behind. */
    async later(signal) {
        if (!this.hasLater) return;
        const { next } = this;
        const page = await this.records.from(next, signal);
        if (!signal.aborted && this.next === next) this.#add(page, MOST_ROWS);
    }

    #add(page, most) {
        this.rows.push(...page.records);
        this.next = page.next;
        this.isClosed = page.closed;
        this.hasLater = !page.up_to_date;
        const gone = Math.max(0, this.rows.length - most);
        if (gone) {
            this.rows.splice(0, gone);
            this.hasEarlier = true;
        }
        this.changed(-gone);
    }

    /** Take what comes until the signal, or the end of the stream. `told(trouble)`: of each turn. */
    async follow(signal, told) {
        while (!signal.aborted) {
            try {
                if (await this.#turn(signal)) return;
                told();
            } catch (error) {
                if (isAbort(error)) return;
                if (!(error instanceof Fault) || (error.status && error.status < 500 && error.status !== 429)) throw error;
                told(error);
                await pause(AGAIN_MS, signal).catch(() => {});
            }
        }
    }

    /** One turn: wait for more, have what there is, rest a moment. True at the end of the stream. */
    async #turn(signal) {
        if (this.isClosed && !this.hasLater) return true;
        const begin = performance.now();
        const answer = await read(this.path, { offset: this.next, live: "long-poll" }, signal);
        if (answer.status === 204) {
            this.isClosed = answer.headers.get("Stream-Closed") === "true";
            return this.isClosed;
        }
        try {
            await this.#take(answer, signal);
        } finally {
            await answer.body?.cancel().catch(() => {});
        }
        await pause(Math.max(0, PACE_MS - (performance.now() - begin)), signal);
        return false;
    }

    async #take(answer, signal) {
        let page = await this.records.from(this.next, signal, PAGE_FOLLOWED);
        if (!page.records.length && page.next === this.next) {
            await pause(SETTLE_MS, signal); // what was acknowledged is in the files a moment later
            return;
        }
        if (page.up_to_date) {
            if (page.records.length <= 50) await this.contents.feed(answer, page.records);
        } else {
            await answer.body?.cancel();
            page = await this.#caughtUp(page, signal);
        }
        this.#count(page);
        this.#add(page, MOST_FOLLOWED);
    }

    /** More comes than anybody reads: go on with the last of it. */
    async #caughtUp(page, signal) {
        const last = await this.records.last(signal, PAGE_FOLLOWED);
        const first = last.records[0]?.start ?? last.next;
        if (first <= page.next) {
            const known = new Set(page.records.map((record) => record.start));
            const more = last.records.filter((record) => !known.has(record.start));
            return { ...last, records: page.records.concat(more) };
        }
        this.rows = [];
        this.hasEarlier = true;
        return { ...last, skipped: between(this.next, first) / between(first, last.next) };
    }

    /** Count what came, with what was skipped: `skipped` is how many times as much as the records. */
    #count({ records, skipped = 0 }) {
        const now = performance.now();
        const size = records.reduce((sum, record) => sum + record.size, 0);
        this.recent.push([now, records.length * (1 + skipped), size * (1 + skipped)]);
        while (this.recent[0][0] < now - 3000) this.recent.shift();
    }

    /** Messages and bytes in a second, of late. */
    rate() {
        const now = performance.now();
        const late = this.recent.filter(([at]) => at >= now - 3000);
        const sum = (index) => late.reduce((total, entry) => total + entry[index], 0) / 3;
        return { messages: sum(1), bytes: sum(2) };
    }
}

/** Bytes from one offset to another, or from where its segment begins. */
function between(one, other) {
    const [[segment, from], [last, to]] = [parse(one), parse(other)];
    return segment === last ? to - from : to;
}
