// What the server counts, out of its metrics, and how that changes while the console is open.

import { changed, metrics } from "./api.js";

const LINE = /^([a-z_:][\w:]*)(?:\{(.*)\})? (\S+)/i;
const KEPT_MS = 300_000;
const SELDOM_MS = 10_000;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** All samples of a text of metrics: name → [{labels, value}]. */
export function parse(text) {
    const found = new Map();
    for (const line of text.split("\n")) {
        const match = line.startsWith("#") ? null : LINE.exec(line);
        if (!match) continue;
        const labels = Object.fromEntries([...(match[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
        const name = match[1].replace(/^durable_streams_/, "");
        if (!found.has(name)) found.set(name, []);
        found.get(name).push({ labels, value: Number(match[3]) });
    }
    return found;
}

export class Samples {
    constructor(text) {
        this.all = parse(text);
        this.at = Date.now();
    }

    of(name) {
        return this.all.get(name) ?? [];
    }

    /** The sum of those whose labels are these; null if there is none of that name. */
    sum(name, labels = {}) {
        if (!this.all.has(name)) return null;
        return this.of(name)
            .filter((one) => Object.entries(labels).every(([key, value]) => one.labels[key] === value))
            .reduce((total, one) => total + one.value, 0);
    }
}

/** What was seen since the page was opened, on whichever screen, of the last minutes. */
const history = [];

export async function look(signal) {
    const now = new Samples(await metrics(signal));
    const last = history.at(-1);
    const wasRestarted = last && (now.sum("process_start_time_seconds") ?? 0) !== (last.sum("process_start_time_seconds") ?? 0);
    if (wasRestarted) history.length = 0;
    history.push(now);
    while (history[0].at < now.at - KEPT_MS) history.shift();
    return now;
}

/** Look now and then, whatever is on the screen, so that graphs have a past; until that is refused. */
export function lookSeldom() {
    let isTold = true;
    changed.addEventListener("token", () => { isTold = true; });
    setInterval(async () => {
        if (document.hidden || !isTold || Date.now() - history.at(-1)?.at < SELDOM_MS / 2) return;
        await look().catch(({ status }) => { isTold = !status || status >= 500; });
    }, SELDOM_MS);
}

/** How much a counter grew in a second, from one look to the next. */
export function rates(name, labels) {
    const out = [];
    for (let index = 1; index < history.length; index++) {
        const [one, other] = [history[index - 1], history[index]];
        const grown = (other.sum(name, labels) ?? 0) - (one.sum(name, labels) ?? 0);
        out.push({ at: other.at, value: Math.max(0, grown) / Math.max(0.001, (other.at - one.at) / 1000) });
    }
    return out;
}

export const levels = (name, labels) => history.map((one) => ({ at: one.at, value: one.sum(name, labels) ?? 0 }));
