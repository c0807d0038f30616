// The bytes of messages: beginnings for a list, and whole ones. One read serves as many messages as
// it can; what is not needed any more is not read to its end.

import { read } from "./api.js";

const PREVIEW = 2048;
const MOST_KEPT = 4000;
const MOST_SKIPPED = 64 * 1024;
const NOTHING = new Uint8Array(0);

/** Takes a body apart as it comes. */
export class Bytes {
    #reader;
    #left = NOTHING;

    constructor(response) {
        this.#reader = response.body?.getReader();
    }

    /** The next `size` bytes, of which the first `keep` are returned; null where it ends before. */
    async take(size, keep = size) {
        const kept = new Uint8Array(Math.min(size, keep));
        let have = 0;
        while (have < size) {
            if (!this.#left.length) {
                const { done, value } = this.#reader ? await this.#reader.read() : { done: true };
                if (done) return null;
                this.#left = value;
            }
            const piece = this.#left.subarray(0, size - have);
            if (have < kept.length) kept.set(piece.subarray(0, kept.length - have), have);
            have += piece.length;
            this.#left = this.#left.subarray(piece.length);
        }
        return kept;
    }

    stop() {
        return this.#reader?.cancel().catch(() => {});
    }
}

/** Messages of a body, one after the other: [record, bytes], for records that follow each other. */
export async function* messages(response, records, isJson, keep = Infinity) {
    const bytes = new Bytes(response);
    try {
        for (const record of records) {
            if (record.size === 0 && record.start === record.end) continue;
            // A body of JSON begins with "[", and has a comma behind each message.
            if (isJson && (await bytes.take(1)) === null) return;
            const taken = await bytes.take(record.size, keep);
            if (taken === null) return;
            yield [record, taken];
        }
    } finally {
        await bytes.stop();
    }
}

export class Contents {
    constructor(path, isJson) {
        this.path = path;
        this.isJson = isJson;
        this.known = new Map();
    }

    get(record) {
        return record.size === 0 ? NOTHING : this.known.get(record.start);
    }

    /** Read the beginnings of those that are not known; `told` is called as they come. */
    async want(records, signal, told) {
        let index = 0;
        while (index < records.length && !signal.aborted) {
            if (this.get(records[index])) {
                index++;
                continue;
            }
            const response = await read(this.path, { offset: records[index].start }, signal);
            const taken = await this.feed(response, runOf(records.slice(index)), told);
            if (!taken) return;
            index += taken;
        }
    }

    /** Take beginnings out of an answer; how many. */
    async feed(response, records, told) {
        let taken = 0;
        for await (const [record, bytes] of messages(response, records, this.isJson, PREVIEW)) {
            this.known.set(record.start, bytes);
            if (this.known.size > MOST_KEPT) this.known.delete(this.known.keys().next().value);
            taken++;
            told?.();
        }
        return taken;
    }

    /** All bytes of a message. */
    async whole(record, signal) {
        if (record.size === 0) return NOTHING;
        const response = await read(this.path, { offset: record.start }, signal);
        for await (const [, bytes] of messages(response, [record], this.isJson)) return bytes;
        return NOTHING;
    }
}

/** As many of the first ones as one read is good for: it skips little. */
function runOf(records) {
    const run = [];
    for (const record of records) {
        run.push(record);
        if (record.size > MOST_SKIPPED) break;
    }
    return run;
}
