// The messages of a stream: a list, one of them beside it, and what moves both: following, jumping to
// a place, looking for a text.

import { mayWrite } from "./api.js";
import { composer } from "./composer.js";
import { Contents } from "./content.js";
import { Detail } from "./detail.js";
import { button, complain, h, icon, say, show } from "./dom.js";
import { isAbort } from "./faults.js";
import { Feed } from "./feed.js";
import { bytes, many, rate, short, when } from "./format.js";
import { empty, fault } from "./parts.js";
import { note } from "./route.js";
import { matcher, Scan } from "./scan.js";
import { line } from "./text.js";
import { place as parsePlace } from "./times.js";
import { WindowList } from "./window_list.js";

const NEAR = 40;

export class Messages {
    /** `info`: {isJson, contentType}; `known`: the stream's details; `query`: what the URL says. */
    constructor(path, info, known, query, signal) {
        this.path = path;
        this.info = info;
        this.query = query;
        this.signal = signal;
        this.contents = new Contents(path, info.isJson);
        this.feed = new Feed(path, known, this.contents, (added) => this.#onfeed(added));
        this.found = null;
        this.busy = new Set();
        this.following = null;
        this.scanning = null;
        this.detail = new Detail(path, this.contents, info, () => this.#closeDetail());
        this.list = new WindowList({
            label: "Messages",
            draw: (index) => this.#row(this.rows[index]),
            key: (index) => `${this.rows[index].start}${this.contents.get(this.rows[index]) ? "" : "?"}`,
            chosen: (index) => this.#open(index),
            moved: (seen) => this.#onmoved(seen),
        });
        this.list.node.addEventListener("wheel", (event) => { if (event.deltaY < 0) this.#pause(); }, { passive: true });
        this.list.node.addEventListener("keydown", (event) => {
            if (["ArrowUp", "PageUp", "Home"].includes(event.key)) this.#pause();
            if (event.key === "Escape") this.#closeDetail();
        });
        signal.addEventListener("abort", () => this.#end());
        this.node = this.#frame();
    }

    get rows() {
        return this.found ?? this.feed.rows;
    }

    #frame() {
        this.trouble = h("div", {});
        this.state = h("span", { class: "follow-state" });
        this.scanProgress = h("progress", { "aria-label": "Looked through" });
        this.scanText = h("span", { class: "scan-text" });
        this.scanButton = button("", () => (this.scanning ? this.scanning.abort() : this.#lookOn()));
        this.scanState = h("div", { class: "scan", hidden: true }, this.scanProgress, this.scanText, this.scanButton,
            button("Show all messages", () => { this.filter.value = ""; this.toEnd(); }));
        this.none = h("div", {});
        this.followButton = h("button", { type: "button", class: "button", onclick: () => this.toggle() });
        this.jump = h("input", {
            type: "text", list: "places", autocomplete: "off", "aria-label": "Jump to a time or an offset",
            placeholder: "Jump: yesterday 14:00, -1h, offset",
        });
        this.filter = h("input", {
            type: "search", autocomplete: "off", "aria-label": "Filter", value: this.query.get("filter") ?? "",
            placeholder: "Filter: words, or /an expression/",
        });
        return h("div", { class: "messages" },
            h("div", { class: "bar" },
                h("form", { class: "with-icon", role: "search", onsubmit: (event) => { event.preventDefault(); this.look(); } }, icon("search"), this.filter),
                h("form", { onsubmit: (event) => { event.preventDefault(); this.toPlace(this.jump.value); } }, this.jump,
                    h("datalist", { id: "places" }, ["yesterday 14:00", "today 09:00", "-15m", "-1h", "-1d"].map((one) => h("option", { value: one })))),
                h("div", { class: "row" },
                    button("Beginning", () => this.toBeginning(), { kind: "quiet" }),
                    button("End", () => this.toEnd(), { kind: "quiet" }),
                    this.followButton, this.state)),
            this.scanState, this.trouble,
            h("div", { class: "split" },
                h("div", { class: "list-frame" },
                    h("div", { class: "list-head", "aria-hidden": "true" }, ["Time", "Offset", "Size", "Producer", "Content"].map((one) => h("span", { class: one.toLowerCase() }, one))),
                    this.list.node, this.none),
                this.detail.node),
            mayWrite && !this.feed.isClosed && (this.composer = composer(this.path, this.info, () => this.#appended())));
    }

    /** Show what the URL says: a message, a place, what a text is found in, or the end. */
    async begin() {
        this.#drawFollow();
        const at = this.query.get("at");
        const since = this.query.get("since");
        if (this.filter.value) await this.look();
        else if (at) await this.#to(() => this.feed.at(at, this.signal), { open: this.query.get("open") === at });
        else if (since) await this.#to(() => this.feed.since(since, this.signal));
        else if (this.query.get("from") === "beginning") await this.toBeginning();
        else await this.toEnd();
    }

    async #guarded(work, again = () => this.#guarded(work)) {
        show(this.trouble);
        try {
            return await work();
        } catch (error) {
            if (!isAbort(error) && !this.signal.aborted) show(this.trouble, fault(error, again));
            return undefined;
        }
    }

    // -- moving -----------------------------------------------------------------------------

    async #to(have, { open = false } = {}) {
        this.#pause();
        this.#clearFound();
        const index = await this.#guarded(have);
        if (index === undefined) return;
        this.list.toTop(Math.max(0, index - 2));
        if (this.rows.length) this.list.choose(Math.max(0, index), { quietly: !open });
        if (!this.feed.hasLater && index >= this.rows.length - 1) this.list.toEnd();
    }

    async toPlace(text) {
        const found = parsePlace(text);
        if (!found) return void complain(this.jump, "Give a time such as “yesterday 14:00”, “-1h” or 2026-01-31 14:00:05, or an offset.");
        if (found.offset === "now") return void this.toEnd();
        note({ at: found.offset ?? "", since: found.since ?? "", from: "", filter: "", open: "" });
        if (found.offset) await this.#to(() => this.feed.at(found.offset, this.signal));
        else await this.#to(() => this.feed.since(found.since, this.signal));
    }

    async toBeginning() {
        note({ at: "", since: "", from: "beginning", filter: "", open: "" });
        await this.#to(() => this.feed.atBeginning(this.signal).then(() => 0));
        this.list.toTop(0);
    }

    async toEnd() {
        note({ at: "", since: "", from: "", filter: "", open: "" });
        this.#pause();
        this.#clearFound();
        await this.#guarded(() => this.feed.atEnd(this.signal));
        this.list.toEnd();
        if (!this.signal.aborted && !this.feed.isClosed) this.#follow();
        else this.#drawFollow();
    }

    // -- following --------------------------------------------------------------------------

    toggle() {
        if (this.following) this.#pause();
        else if (this.feed.hasLater || this.found) this.toEnd();
        else {
            this.list.toEnd();
            this.#follow();
        }
    }

    #follow() {
        const following = this.following = new AbortController();
        const signal = AbortSignal.any([this.signal, following.signal]);
        this.timer = setInterval(() => this.#drawFollow(), 1000);
        this.#drawFollow();
        this.#guarded(() => this.feed.follow(signal, (trouble) => show(this.trouble, trouble && fault(trouble))))
            .finally(() => { if (this.following === following) this.#pause(); });
    }

    #pause() {
        this.following?.abort();
        this.following = null;
        clearInterval(this.timer);
        this.#drawFollow();
    }

    #drawFollow() {
        const follows = this.following !== null;
        const key = `${follows} ${this.feed.isClosed}`;
        if (this.followButton.dataset.key !== key) {
            this.followButton.dataset.key = key;
            show(this.followButton, icon(follows ? "pause" : "play"), h("span", {}, follows ? "Pause" : "Follow"));
            this.followButton.disabled = this.feed.isClosed;
        }
        const { messages, bytes: size } = this.feed.rate();
        this.state.classList.toggle("live", follows);
        const text = this.feed.isClosed ? "closed" : follows ? `live · ${rate(messages)}/s · ${bytes(Math.round(size))}/s` : "paused";
        if (this.state.textContent !== text) this.state.textContent = text;
        if (this.feed.isClosed && this.composer) this.composer.hidden = true;
    }

    #appended() {
        if (!this.following) this.toggle();
    }

    // -- looking for a text -----------------------------------------------------------------

    async look() {
        const text = this.filter.value.trim();
        if (!text) return void this.toEnd();
        let matches;
        try {
            matches = matcher(text);
        } catch {
            return void complain(this.filter, "That is no regular expression.");
        }
        note({ filter: text, at: "", since: "", from: "" });
        this.#pause();
        this.#clearFound();
        let drawn = 0;
        this.scan = new Scan(this.feed.records, this.info.isJson, matches, (size) => {
            if (performance.now() - drawn < 100) return;
            drawn = performance.now();
            this.list.resize(this.found.length);
            this.#drawScan(size);
        });
        this.found = this.scan.found;
        this.list.resize(0);
        await this.#lookOn();
    }

    /** Look on, from the end or where it was stopped. */
    async #lookOn() {
        const { scan } = this;
        const scanning = this.scanning = new AbortController();
        this.#drawNone();
        this.#drawScan(scan.bytes);
        await this.#guarded(() => scan.run(AbortSignal.any([this.signal, scanning.signal])), () => this.#lookOn());
        if (this.scanning !== scanning) return;
        this.scanning = null;
        this.list.resize(this.found.length);
        this.#drawScan(scan.bytes);
        this.#drawNone();
    }

    #drawScan(size) {
        const { isAll } = this.scan;
        const isBusy = this.scanning !== null;
        const all = Math.max(1, this.feed.records.size);
        const how = isBusy ? "Looking" : isAll ? "Looked through all of it" : "Stopped";
        const share = isAll ? "" : ` (${Math.min(100, Math.round((100 * size) / all))} %)`;
        this.scanState.hidden = false;
        this.scanProgress.hidden = !isBusy;
        this.scanProgress.max = all;
        this.scanProgress.value = Math.min(size, all);
        this.scanText.textContent = `${how}: ${many(this.found.length, "message")} of ${bytes(size)}${share}, newest first.`;
        this.scanButton.hidden = isAll;
        this.scanButton.firstChild.textContent = isBusy ? "Stop" : "Go on";
        if (!isBusy) say(this.scanText.textContent);
    }

    #clearFound() {
        this.scanning?.abort();
        this.scanning = null;
        this.scanState.hidden = true;
        if (this.found === null) return;
        this.found = null;
        this.list.resize(this.rows.length);
    }

    // -- the list ---------------------------------------------------------------------------

    #onfeed(added) {
        if (this.found) return;
        const stick = this.following !== null;
        this.list.resize(this.rows.length, added);
        if (stick) this.list.toEnd();
        this.#drawNone();
        this.#drawFollow();
    }

    #drawNone() {
        const isEmpty = this.rows.length === 0 && !this.scanning;
        show(this.none, isEmpty && (this.found
            ? this.scan.isAll && empty("Nothing found", "No message has all of these words.")
            : empty("No messages yet", mayWrite ? "Append one below, or from a program: “Use from a program” has the commands." : "They show here as they come.")));
    }

    #onmoved({ first, last }) {
        if (this.signal.aborted) return;
        this.#fill(this.rows.slice(first, last));
        if (this.found) return;
        if (first < NEAR) this.#once("earlier", () => this.feed.earlier(this.signal));
        if (!this.following && last > this.rows.length - NEAR) this.#once("later", () => this.feed.later(this.signal));
    }

    /** Do something unless it is being done. */
    async #once(name, work) {
        if (this.busy.has(name)) return;
        this.busy.add(name);
        try {
            await this.#guardedQuietly(work);
        } finally {
            this.busy.delete(name);
        }
    }

    async #guardedQuietly(work) {
        try {
            await work();
        } catch (error) {
            if (!isAbort(error) && !this.signal.aborted) show(this.trouble, fault(error, () => this.list.render()));
        }
    }

    /** Read what those begin with that are seen. */
    #fill(seen) {
        const missing = seen.filter((record) => !this.contents.get(record));
        if (!missing.length) return;
        this.wanted = missing;
        this.#once("fill", async () => {
            while (this.wanted?.length) {
                const wanted = this.wanted;
                this.wanted = null;
                let isAsked = false;
                const drawn = () => {
                    if (isAsked) return;
                    isAsked = true;
                    requestAnimationFrame(() => { isAsked = false; this.list.render(); });
                };
                for (const run of runs(wanted)) {
                    await this.contents.want(run, this.signal, drawn);
                    if (this.wanted?.length) break; // others are seen by now
                }
            }
        });
    }

    #row(record) {
        const content = this.contents.get(record);
        const text = record.size === 0 ? (record.closed ? "closed" : "") : content ? line(content) : "…";
        return [
            h("time", {}, when(record.time)),
            h("code", { class: "offset", title: record.start }, short(record.start)),
            h("span", { class: "size" }, bytes(record.size)),
            h("bdi", { class: "producer" }, record.producer ? record.producer.id : "–"),
            h("bdi", { class: `preview${content ? "" : " waiting"}`, dir: "ltr" }, text),
        ];
    }

    #open(index) {
        const record = this.rows[index];
        if (!record) return;
        if (this.following && index < this.rows.length - 1) this.#pause();
        note({ at: record.start, open: record.start, since: "", from: "" });
        this.detail.open(record);
    }

    #closeDetail() {
        if (this.detail.node.hidden) return;
        this.detail.close();
        note({ at: "", open: "" });
        this.list.node.focus();
    }

    #end() {
        clearInterval(this.timer);
        this.following?.abort();
        this.scanning?.abort();
        this.detail.close();
        this.list.close();
    }
}

/** Those that follow each other, together; of what was found all are alone. */
function runs(records) {
    const out = [];
    for (const record of records) {
        const last = out.at(-1);
        if (last && last.at(-1).end === record.start) last.push(record);
        else out.push([record]);
    }
    return out;
}
