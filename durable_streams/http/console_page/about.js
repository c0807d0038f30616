// All that is known of a stream beside its messages, renewed while one looks.

import { details } from "./api.js";
import { h, show } from "./dom.js";
import { isAbort } from "./faults.js";
import { ago, bytes, count, duration, many, moment } from "./format.js";
import { every, facts, fault, hint, loading, panel, table, tableRow } from "./parts.js";
import { to } from "./route.js";
import { visible } from "./text.js";

const RENEWED_MS = 3000;
const MOST_ABOVE = 20;

export async function about(place, path, signal) {
    const shown = h("div", { class: "panels" }, loading());
    place.append(shown);
    let drawn = "";
    await every(RENEWED_MS, signal, async () => {
        try {
            const known = await details(path, signal);
            const key = JSON.stringify({ ...known, left_s: 0 });
            if (signal.aborted || key === drawn) return;
            drawn = key;
            const parents = await ancestors(known, signal);
            if (!signal.aborted) show(shown, panels(path, known, parents));
        } catch (error) {
            if (!isAbort(error)) {
                drawn = "";
                show(shown, fault(error));
            }
        }
    });
}

/** What it was made of, and what that was made of, as far as one may see. */
async function ancestors(known, signal) {
    const out = [];
    let fork = known.fork;
    while (fork?.source && out.length < MOST_ABOVE) {
        out.unshift({ path: fork.source, offset: fork.offset });
        fork = (await details(fork.source, signal).catch(() => null))?.fork;
    }
    return out;
}

function panels(path, known, parents) {
    const { readers, segments, producers } = known;
    return [
        panel("The stream", facts([
            ["Content type", known.content_type],
            ["Size", `${bytes(known.size_bytes)} (${count(known.size_bytes)} B)`],
            ["Created", known.created ? moment(known.created) : "not known"],
            ["Last write", known.last_write ? `${moment(known.last_write)}, ${ago(known.last_write)}` : "never"],
            ["Begins at", h("code", {}, known.begin)],
            ["Ends at", h("code", {}, known.tail)],
            ["State", known.closed ? "closed: nothing more is appended" : "open"],
        ])),
        panel("Lifetime", facts([
            ["Without use", known.ttl_s === null ? "it stays" : `it goes after ${duration(known.ttl_s)}`],
            ["Until", known.expires_at ?? "no fixed end"],
            ["As it is now", known.ends_at ? `it ends ${moment(known.ends_at)}` : "it does not end by itself"],
        ])),
        panel("Readers", facts([
            ["Follow it now", count(readers.following)],
            ["By event streams", count(readers.event_streams)],
            ["By long-polls", count(readers.long_polls)],
        ])),
        panel("Forks", forkTree(path, known, parents)),
        panel(`Producers (${count(producers.count)})`, producers.last.length
            ? table("Producers", ["Producer", "Epoch", "Last number", "Last seen"], producers.last.map((one) =>
                tableRow(h("bdi", {}, visible(one.id)), one.epoch, one.seq, ago(one.last_seen))))
            : hint("None has named itself.")),
        panel(`Segments (${count(segments.count)})`, segmentBars(segments)),
    ];
}

const link = (path) => h("a", { href: to("stream", path) }, h("bdi", {}, visible(path)));

/** What it was made of, itself, and what was made of it: a branch in the next. */
function forkTree(path, known, parents) {
    const own = h("li", {}, h("strong", {}, h("bdi", {}, visible(path))),
        known.forks.paths.length > 0 && h("ul", {}, known.forks.paths.map((one) => h("li", {}, link(one)))),
        known.forks.more && hint("There may be more than these."));
    const tree = parents.reduceRight((inner, one) => h("li", {}, link(one.path), h("ul", {}, inner)), own);
    const note = known.fork && !known.fork.source ? "It was made of a stream that you may not see."
        : !known.fork && !known.forks.paths.length ? "It was made of no other stream, and none was made of it." : null;
    return [h("ul", { class: "tree" }, tree), note && hint(note)];
}

function segmentBars({ first, count: all, last_sizes: sizes }) {
    const most = Math.max(...sizes, 1);
    return h("ul", { class: "bars" }, sizes.slice(-20).map((size, index) => {
        const bar = h("span", { class: "bar-fill" });
        bar.style.width = `${Math.max(1, (100 * size) / most)}%`;
        const number = first + all - Math.min(20, sizes.length) + index;
        return h("li", {}, h("span", { class: "number" }, String(number)), h("span", { class: "bar-track", "aria-hidden": "true" }, bar), h("span", { class: "number" }, bytes(size)));
    }), all > 20 && h("li", { class: "hint" }, `The last 20 of ${many(all, "segment")}.`));
}
