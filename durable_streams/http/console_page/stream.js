// One stream: its messages, and all else that is known of it.

import { about } from "./about.js";
import { closeDialog, copyDialog, deleteDialog, forkDialog } from "./actions.js";
import { details, head, mayWrite } from "./api.js";
import { button, h, show, toast } from "./dom.js";
import { save, whole } from "./download.js";
import { Fault, isAbort } from "./faults.js";
import { bytes, duration } from "./format.js";
import { Messages } from "./messages.js";
import { empty, fault, loading } from "./parts.js";
import { above } from "./paths.js";
import { token } from "./records.js";
import { note, to } from "./route.js";
import { visible } from "./text.js";

const TABS = [["messages", "Messages"], ["about", "Details"]];

export async function stream(place, { path, query }, signal) {
    show(place, loading());
    const known = await knownOf(path, signal);
    if (signal.aborted) return "";
    if (known.error) {
        show(place, crumbs(path), fault(new Fault(500, known.error)));
        return path;
    }
    const contentType = known.content_type;
    const info = { contentType, isJson: contentType.split(";")[0].trim().toLowerCase() === "application/json" };
    const shown = h("div", { class: "tab-content", id: "tab-content", role: "tabpanel" });
    const badges = h("div", { class: "row badges" });
    const redraw = async () => {
        const now = await details(path, signal).catch(() => null);
        if (now && !signal.aborted) drawBadges(badges, now);
    };
    let leaving = new AbortController();
    const draw = (name) => {
        leaving.abort();
        leaving = new AbortController();
        const inner = AbortSignal.any([signal, leaving.signal]);
        shown.setAttribute("aria-labelledby", `tab-${name}`);
        if (name === "about" && known.isPartial) show(shown, empty("No details are told here", "The application that serves these streams tells no more of them than their messages."));
        else if (name === "about") about(show(shown), path, inner);
        else {
            const messages = new Messages(path, info, known, query, inner);
            show(shown, messages.node);
            messages.begin();
        }
    };
    show(place,
        h("div", { class: "stream-head" }, crumbs(path), badges, actions(path, info, known, signal, redraw)),
        tabs(query.get("tab") === "about" ? "about" : "messages", (name) => { note({ tab: name === "about" ? "about" : "" }); draw(name); }),
        shown);
    place.classList.add("fills");
    signal.addEventListener("abort", () => place.classList.remove("fills"));
    drawBadges(badges, known);
    draw(query.get("tab") === "about" ? "about" : "messages");
    return path;
}

/** Its details; where an application tells nobody of them, what a HEAD says. */
async function knownOf(path, signal) {
    try {
        return await details(path, signal);
    } catch (error) {
        if (!(error instanceof Fault) || error.status !== 400) throw error;
    }
    const { headers } = await head(path, signal);
    return {
        isPartial: true,
        content_type: headers.get("Content-Type"),
        tail: headers.get("Stream-Next-Offset"),
        closed: headers.get("Stream-Closed") === "true",
        begin: token(0, 0),
        segments: { first: 0, count: 0, last_sizes: [] },
    };
}

function crumbs(path) {
    const last = path.split("/").at(-1);
    return h("div", { class: "crumbs" },
        h("nav", { "aria-label": "Where it is" }, h("a", { href: to("streams") }, "Streams"),
            above(path).map((one) => [" / ", h("a", { href: to("streams", "", { prefix: one }) }, h("bdi", {}, visible(one.split("/").at(-1))))]), " /"),
        h("h1", { title: path }, h("bdi", {}, visible(last))));
}

function drawBadges(place, known) {
    show(place,
        h("span", { class: "badge mono" }, known.content_type),
        known.size_bytes !== undefined && h("span", { class: "badge" }, bytes(known.size_bytes)),
        known.closed && h("span", { class: "badge warn" }, "closed"),
        known.left_s !== null && known.left_s !== undefined && h("span", { class: "badge warn" }, `ends in ${duration(known.left_s)} without use`),
        known.fork && h("span", { class: "badge" }, "a fork"));
}

function actions(path, info, known, signal, redraw) {
    const download = button("Download", () => downloadAll(path, info, signal, download), { kind: "quiet", symbol: "down" });
    const close = !known.closed && button("Close", () => closeDialog(path, () => { close.hidden = true; redraw(); }), { kind: "quiet", symbol: "lock" });
    return h("div", { class: "row actions" },
        button("Use from a program", () => copyDialog(path, info.contentType, info.isJson), { kind: "quiet", symbol: "copy" }),
        download,
        mayWrite && [
            button("Fork", async () => forkDialog(path, (await knownOf(path, signal)).tail, "where it ends now"), { kind: "quiet", symbol: "fork" }),
            close,
            button("Delete", () => deleteDialog(path), { kind: "quiet danger", symbol: "trash" }),
        ]);
}

async function downloadAll(path, info, signal, place) {
    const label = place.querySelector("span");
    place.disabled = true;
    try {
        const blob = await whole(path, info.isJson, signal, (size) => { label.textContent = bytes(size); });
        save(blob, `${path.split("/").at(-1)}${info.isJson ? ".json" : ""}`);
    } catch (error) {
        if (!isAbort(error)) toast(`The download failed: ${error.message}`);
    } finally {
        place.disabled = false;
        label.textContent = "Download";
    }
}

function tabs(chosen, onchoose) {
    const row = h("div", { class: "tabs", role: "tablist", "aria-label": "Of the stream" });
    const choose = (name, isByKey) => {
        for (const tab of row.children) {
            const isIt = tab.dataset.name === name;
            tab.setAttribute("aria-selected", String(isIt));
            tab.tabIndex = isIt ? 0 : -1;
            if (isIt && isByKey) tab.focus();
        }
        onchoose(name);
    };
    show(row, TABS.map(([name, label], index) => h("button", {
        type: "button", role: "tab", id: `tab-${name}`, "data-name": name, "aria-controls": "tab-content",
        "aria-selected": String(name === chosen), tabIndex: name === chosen ? 0 : -1,
        onclick: () => choose(name),
        onkeydown: (event) => {
            const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
            if (by) choose(TABS[(index + by + TABS.length) % TABS.length][0], true);
        },
    }, label)));
    return row;
}

