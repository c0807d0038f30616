// Which streams there are: by what their paths begin with, as one types; as a list or as a tree.

import { createDialog } from "./actions.js";
import { mayWrite } from "./api.js";
import { button, choice, h, icon, renew, show } from "./dom.js";
import { Fault, isAbort } from "./faults.js";
import { ago, bytes, clock, many } from "./format.js";
import { children, foremost, pages, split } from "./listing.js";
import { empty, every, fault, heading, loading, table } from "./parts.js";
import { go, note, to } from "./route.js";
import { visible } from "./text.js";

const RENEWED_MS = 3000;
const TYPING_MS = 120;
const PAGE = 100;
const MOST_SORTED = 5000;
const MOST_SHOWN = 200;

export async function streams(place, { query }, signal) {
    const state = Object.fromEntries(["prefix", "view", "sort", "after"].map((name) => [name, query.get(name) ?? ""]));
    const shown = h("div", { class: "streams" }, loading());
    const input = h("input", {
        type: "search", value: state.prefix, autocomplete: "off",
        "aria-label": "Paths that begin with", placeholder: "Paths that begin with…",
    });
    let drawing = new AbortController();
    const draw = async () => {
        drawing.abort();
        drawing = new AbortController();
        const inner = AbortSignal.any([signal, drawing.signal]);
        note(state);
        const failed = (error) => {
            if (isAbort(error) || inner.aborted) return;
            const isUntold = error instanceof Fault && error.status === 400 && !state.prefix;
            show(shown, isUntold ? untold() : fault(error, draw));
        };
        if (state.view === "tree") await tree(shown, state.prefix, inner).catch(failed);
        else await listed(shown, state, inner, failed);
    };
    const anew = (change) => { Object.assign(state, { after: "" }, change); draw(); };
    let typing = 0;
    input.oninput = () => {
        clearTimeout(typing);
        typing = setTimeout(() => anew({ prefix: input.value.trim() }), TYPING_MS);
    };
    show(place,
        heading("Streams", mayWrite && button("New stream", () => createDialog(state.prefix.replace(/\/+$/, "")), { kind: "primary", symbol: "plus" })),
        h("div", { class: "bar" },
            h("form", { class: "with-icon wide", role: "search", onsubmit: (event) => event.preventDefault() }, icon("search"), input),
            choice("View", [["", "List"], ["tree", "Tree"]], state.view, (view) => anew({ view })),
            h("label", { class: "inline" }, "Sort by ",
                h("select", { onchange: (event) => anew({ sort: event.target.value, view: "" }) },
                    [["", "path"], ["write", "last write"], ["size", "size"]].map(([value, text]) =>
                        h("option", { value, selected: value === state.sort }, text))))),
        shown);
    draw();
    return "Streams";
}

/** Where an application tells nobody which streams there are: one has to know a path. */
const untold = () => empty("Nobody is told which streams there are",
    "The application that serves them says so. If you know the path of one, open it:",
    h("form", { onsubmit: (event) => { event.preventDefault(); go("stream", event.target.elements[0].value.trim()); } },
        h("input", { "aria-label": "Path of a stream", required: true }), " ", h("button", { type: "submit", class: "button" }, "Open")));

const ORDERS = {
    write: (one, other) => (other.last_write ?? "").localeCompare(one.last_write ?? ""),
    size: (one, other) => (other.size_bytes ?? 0) - (one.size_bytes ?? 0),
};

/** As a table; how streams have grown since they were first drawn is told beside them. */
function listed(place, state, signal, failed) {
    const first = new Map();
    const body = h("tbody", {});
    const told = h("p", { class: "hint", role: "status" });
    const more = h("div", { class: "row" });
    const draw = (rows, text) => {
        for (const row of rows) if (!first.has(row.path)) first.set(row.path, row.size_bytes);
        if (!rows.length && !state.after) return void show(place, nothing(state.prefix));
        if (!body.isConnected) show(place, table("Streams", ["Path", "Type", "Size", "Last write", "State"], body, "stream-table"), told, more);
        renew(body, rows.map((row) => streamRow(row, first.get(row.path))));
        if (told.textContent !== text) told.textContent = text;
    };
    const { again, controls } = (ORDERS[state.sort] ? sorted : inPages)(state, signal, draw, failed);
    show(more, controls);
    return every(RENEWED_MS, signal, async () => {
        try {
            await again();
        } catch (error) {
            if (!body.isConnected || error.status !== 0) failed(error); // that nobody answers is told above
        }
    });
}

function inPages(state, signal, draw, failed) {
    const before = [];
    let next = null;
    const again = async () => {
        const { after } = state;
        const { value: page } = await pages(state.prefix, PAGE + 1, signal, after).next();
        if (signal.aborted || after !== state.after) return;
        const rows = page.rows.slice(0, PAGE);
        next = page.rows.length > PAGE ? rows.at(-1).path : null;
        draw(rows, `${many(rows.length, "stream")}${after ? ` behind ${visible(after)}` : ""}${next === null ? "." : ", and more."}`);
        back.hidden = !after;
        on.hidden = next === null;
    };
    const move = (after) => {
        state.after = after;
        note({ after });
        scrollTo(0, 0);
        again().catch(failed);
    };
    const back = button("Previous page", () => move(before.pop() ?? ""), { hidden: true });
    const on = button("Next page", () => { before.push(state.after); move(next); }, { hidden: true });
    return { again, controls: [back, on] };
}

/** The first ones by an order: among some thousands again and again, or among all if somebody asks. */
function sorted(state, signal, draw, failed) {
    let going = null;
    let isAsked = false;
    const look = (most, inner) => {
        let drawn = 0;
        return foremost(state.prefix, ORDERS[state.sort], MOST_SHOWN, inner, ({ rows, count, isAll }) => {
            const isEnd = isAll || count >= most;
            if (isAsked !== (most === Infinity)) return true;
            if (!isEnd && performance.now() - drawn < 500) return false;
            drawn = performance.now();
            const among = `${count > rows.length ? `The first ${rows.length} of ` : ""}${many(count, "stream")}`;
            draw(rows, isEnd && isAll ? `${among}${isAsked ? `, as they were at ${clock(Date.now()).slice(0, 8)}` : ""}.`
                : `${among}${isEnd ? ", the first by path that there are" : " so far"}.`);
            all.hidden = isAll && !isAsked;
            return isEnd;
        });
    };
    const all = button("Sort all of them", async () => {
        if (going) return void going.abort();
        isAsked = true;
        going = new AbortController();
        all.firstChild.textContent = "Stop";
        await look(Infinity, AbortSignal.any([signal, going.signal])).catch(failed);
        going = null;
        all.firstChild.textContent = "Sort all of them";
    }, { hidden: true });
    return { again: () => isAsked || look(MOST_SORTED, signal), controls: all };
}

function streamRow(row, before) {
    const grown = (row.size_bytes ?? 0) - (before ?? 0);
    return h("tr", {},
        h("td", { class: "path" }, h("a", { href: to("stream", row.path) }, h("bdi", {}, visible(row.path)))),
        row.error ? h("td", { colspan: 4, class: "problem" }, row.error) : [
            h("td", { class: "mono dim" }, row.content_type),
            h("td", { class: "number" }, bytes(row.size_bytes), grown > 0 && h("span", { class: "grown" }, `+${bytes(grown)}`)),
            h("td", {}, ago(row.last_write)),
            h("td", {}, h("span", { class: "row" }, row.closed && h("span", { class: "badge" }, "closed"), row.fork && h("span", { class: "badge" }, "fork"),
                row.ends_at && h("span", { class: "badge" }, "ends"))),
        ]);
}

function nothing(prefix) {
    if (prefix) return empty("Nothing begins with that", "No stream that you may see has such a path.");
    return empty("No streams yet", mayWrite ? "Create the first one here, or try it with curl." : "They show here as they are created.",
        mayWrite && button("New stream", () => createDialog(), { kind: "primary", symbol: "plus" }),
        mayWrite && h("a", { class: "button", href: to("try") }, "Try it"));
}

/** What is below a prefix, segment by segment. */
async function tree(place, text, signal) {
    const { prefix, part } = split(text);
    const list = h("ul", { class: "tree big" });
    await grow(list, prefix, signal, { part });
    if (!signal.aborted) show(place, list.children.length ? list : nothing(text));
}

/** Put the next branches below a path into a list, with a button that has more of them. */
async function grow(list, path, signal, from) {
    const { found, next } = await children(path, signal, from);
    list.append(...found.map((one) => branch(one, signal)));
    if (!next) return;
    const more = h("li", {}, button("Show more", () => grow(list, path, signal, { ...from, behind: next })
        .then(() => more.remove(), (error) => { if (!isAbort(error)) more.append(fault(error)); })));
    list.append(more);
}

function branch({ path, row, hasBelow }, signal) {
    const name = visible(path.split("/").at(-1));
    const own = row && [h("a", { href: to("stream", path) }, h("bdi", {}, name)),
        h("span", { class: "hint" }, ` ${row.error ? row.error : `${bytes(row.size_bytes)}, ${ago(row.last_write)}`}`)];
    if (!hasBelow) return h("li", {}, own ?? name);
    const waiting = h("ul", {});
    let isAsked = false;
    const box = h("details", {
        ontoggle: async () => {
            if (isAsked || !box.open) return;
            isAsked = true;
            show(waiting, h("li", {}, loading()));
            const list = h("ul", {});
            try {
                await grow(list, path, signal);
                waiting.replaceWith(list);
            } catch (error) {
                isAsked = false;
                if (!isAbort(error)) show(waiting, h("li", {}, fault(error)));
            }
        },
    }, h("summary", {}, h("bdi", {}, name), "/"), waiting);
    return h("li", {}, row && h("div", {}, own), box);
}
