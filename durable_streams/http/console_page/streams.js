// Which streams there are: by what their paths begin with, as one types; as a list or as a tree.

import { createDialog } from "./actions.js";
import { mayWrite } from "./api.js";
import { button, choice, h, icon, show } from "./dom.js";
import { Fault, isAbort } from "./faults.js";
import { ago, bytes, many } from "./format.js";
import { children, matching, MOST_SORTED, some } from "./listing.js";
import { empty, every, fault, heading, loading } from "./parts.js";
import { go, note, to } from "./route.js";
import { visible } from "./text.js";

const RENEWED_MS = 3000;
const TYPING_MS = 120;

export async function streams(place, { query }, signal) {
    const state = { prefix: query.get("prefix") ?? "", view: query.get("view") ?? "list", sort: query.get("sort") ?? "path" };
    const shown = h("div", { class: "streams" }, loading());
    const input = h("input", {
        type: "search", value: state.prefix, spellcheck: "false", autocomplete: "off",
        "aria-label": "Paths that begin with", placeholder: "Paths that begin with…",
    });
    let drawing = new AbortController();
    const draw = async () => {
        drawing.abort();
        drawing = new AbortController();
        const inner = AbortSignal.any([signal, drawing.signal]);
        note({ prefix: state.prefix, view: state.view === "list" ? "" : state.view, sort: state.sort === "path" ? "" : state.sort });
        try {
            await (state.view === "tree" ? tree(shown, state.prefix, inner) : table(shown, state, inner, draw));
        } catch (error) {
            if (isAbort(error) || inner.aborted) return;
            const isUntold = error instanceof Fault && error.status === 400 && !state.prefix;
            show(shown, isUntold ? untold() : fault(error, draw));
        }
    };
    let typing = 0;
    input.oninput = () => {
        clearTimeout(typing);
        typing = setTimeout(() => { state.prefix = input.value.trim(); draw(); }, TYPING_MS);
    };
    show(place,
        heading("Streams", mayWrite && button("New stream", () => createDialog(state.prefix.replace(/\/+$/, "")), { kind: "primary", symbol: "plus" })),
        h("div", { class: "bar" },
            h("form", { class: "with-icon wide", role: "search", onsubmit: (event) => event.preventDefault() }, icon("search"), input),
            choice("View", [["list", "List"], ["tree", "Tree"]], state.view, (view) => { state.view = view; draw(); }),
            h("label", { class: "inline" }, "Sort by ",
                h("select", { onchange: (event) => { state.sort = event.target.value; state.view = "list"; draw(); } },
                    [["path", "path"], ["write", "last write"], ["size", "size"]].map(([value, text]) =>
                        h("option", { value, selected: value === state.sort }, text))))),
        shown);
    draw();
    return "Streams";
}

/** Where an application tells nobody which streams there are: one has to know a path. */
const untold = () => empty("Nobody is told which streams there are",
    "The application that serves them says so. If you know the path of one, open it:",
    h("form", { onsubmit: (event) => { event.preventDefault(); go("stream", event.target.elements[0].value.trim()); } },
        h("input", { "aria-label": "Path of a stream", required: true, spellcheck: "false" }), " ", h("button", { type: "submit", class: "button" }, "Open")));

const ORDERS = {
    path: () => 0,
    write: (one, other) => (other.last_write ?? "").localeCompare(one.last_write ?? ""),
    size: (one, other) => (other.size_bytes ?? 0) - (one.size_bytes ?? 0),
};

/** A table, page by page; how streams have grown since it was first drawn is told beside them. */
async function table(place, state, signal, again) {
    const isSorted = state.sort !== "path";
    const first = new Map();
    const body = h("tbody", {});
    const more = h("div", { class: "row" });
    const told = h("p", { class: "hint", role: "status" });
    let pages = 1;
    let isDrawn = false;
    const load = async () => {
        const found = isSorted
            ? await some(state.prefix, MOST_SORTED, signal)
            : await some(state.prefix, pages * 100, signal);
        if (signal.aborted) return;
        for (const row of found.rows) if (!first.has(row.path)) first.set(row.path, row.size_bytes);
        const rows = [...found.rows].sort(ORDERS[state.sort]).slice(0, isSorted ? 200 : Infinity);
        if (!rows.length) {
            isDrawn = false;
            show(place, nothing(state.prefix));
            return;
        }
        if (!isDrawn) show(place, frame(body, told, more));
        isDrawn = true;
        show(body, rows.map((row) => streamRow(row, first.get(row.path))));
        told.textContent = isSorted
            ? `${rows.length < found.rows.length ? `The first ${rows.length} of ` : ""}${many(found.rows.length, "stream")}${found.next ? ", the first by path that there are: type what paths begin with to sort among others." : "."}`
            : `${many(rows.length, "stream")}${found.next ? ", and more." : "."}`;
        show(more, !isSorted && found.next && button("Show more", () => { pages++; load().catch(() => again()); }));
    };
    await load();
    await every(RENEWED_MS, signal, () => load().catch((error) => { if (!isAbort(error)) isDrawn = false; }));
}

const frame = (body, told, more) => [
    h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Streams" }, h("table", { class: "stream-table" },
        h("thead", {}, h("tr", {}, ["Path", "Type", "Size", "Last write", "State"].map((one) => h("th", { scope: "col" }, one)))), body)),
    told, more,
];

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
async function tree(place, prefix, signal) {
    const top = prefix.replace(/\/+$/, "");
    const { found, isAll } = await matching(top, prefix, signal);
    if (signal.aborted) return;
    if (!found.length) show(place, nothing(prefix));
    else show(place, h("ul", { class: "tree big" }, found.map((one) => branch(one, signal)), !isAll && h("li", { class: "hint" }, "There are more: type what paths begin with.")));
}

function branch({ path, row, hasBelow }, signal) {
    const label = h("bdi", {}, visible(path.split("/").at(-1)));
    const own = row
        ? [h("a", { href: to("stream", path) }, label), h("span", { class: "hint" }, ` ${row.error ? row.error : `${bytes(row.size_bytes)}, ${ago(row.last_write)}`}`)]
        : label;
    if (!hasBelow) return h("li", {}, own);
    const inner = h("ul", {});
    let isAsked = false;
    const box = h("details", {
        ontoggle: async () => {
            if (isAsked || !box.open) return;
            isAsked = true;
            show(inner, h("li", {}, loading()));
            try {
                const { found, isAll } = await children(path, signal);
                show(inner, found.map((one) => branch(one, signal)), !isAll && h("li", { class: "hint" }, "There are more."));
            } catch (error) {
                isAsked = false;
                if (!isAbort(error)) show(inner, h("li", {}, fault(error)));
            }
        },
    }, h("summary", {}, h("bdi", {}, visible(path.split("/").at(-1))), "/"), inner);
    return h("li", {}, row && h("div", {}, own), box);
}
