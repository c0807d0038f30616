// Pieces that several screens show.

import { button, h, icon, show } from "./dom.js";
import { told } from "./faults.js";
import { count } from "./format.js";

/** A fault as a sentence, what to do, and what the server said. */
export function fault(error, again) {
    const { sentence, advice, detail } = told(error);
    return h("div", { class: "fault", role: "alert" },
        h("p", { class: "sentence" }, sentence),
        h("p", {}, advice),
        detail && h("p", { class: "said" }, "The server said: ", h("q", {}, detail)),
        again && button("Try again", again, { symbol: "refresh" }));
}

/** Where there is nothing yet, why, and what to do. */
export const empty = (title, text, ...actions) =>
    h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text), actions.length > 0 && h("div", { class: "row" }, actions));

/** Terms and what they are. */
export const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(Boolean).map(([term, value]) =>
    h("div", {}, h("dt", {}, term), h("dd", {}, value))));

/** A heading with what can be done beside it. */
export const heading = (title, ...actions) =>
    h("div", { class: "heading" }, h("h1", {}, title), h("div", { class: "row" }, actions));

export const loading = (what = "Loading…") => h("p", { class: "loading" }, what);

export const panel = (title, ...content) => h("section", { class: "panel" }, h("h2", {}, title), content);

export const hint = (...text) => h("p", { class: "hint" }, text);

/** A table that may be wider than the page; `body`: its rows, or what holds them. */
export const table = (label, columns, body, kind = "") =>
    h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": label }, h("table", { class: kind },
        h("thead", {}, h("tr", {}, columns.map((one) => h("th", { scope: "col" }, one)))),
        Array.isArray(body) ? h("tbody", {}, body) : body));

/** A row of a table; numbers stand at the right. */
export const tableRow = (...cells) =>
    h("tr", {}, cells.map((one) => h("td", typeof one === "number" && { class: "number" }, typeof one === "number" ? count(one) : one)));

/** Text with a button that copies it. */
export function copyable(text, label = "Copy") {
    const done = h("span", {}, label);
    return h("div", { class: "copyable" },
        h("pre", { tabIndex: 0 }, text),
        h("button", {
            type: "button", class: "button quiet",
            onclick: async () => { await copy(text); show(done, "Copied"); setTimeout(() => show(done, label), 2000); },
        }, icon("copy"), done));
}

/** Put a text on the clipboard; where a page may not, as without TLS, by selecting it. */
export async function copy(text) {
    try {
        await navigator.clipboard.writeText(text);
    } catch {
        const place = h("textarea", { class: "unseen", value: text, "aria-hidden": "true" });
        (document.querySelector("dialog[open]") ?? document.body).append(place);
        place.select();
        document.execCommand("copy");
        place.remove();
    }
}

/** Do something again and again while the page is seen; at once when it comes back. */
export function every(milliseconds, signal, work) {
    let timer = 0;
    const turn = async () => {
        clearTimeout(timer);
        if (signal.aborted) return;
        if (!document.hidden) await work();
        clearTimeout(timer);
        if (!signal.aborted) timer = setTimeout(turn, milliseconds);
    };
    document.addEventListener("visibilitychange", () => { if (!document.hidden) turn(); }, { signal });
    signal.addEventListener("abort", () => clearTimeout(timer));
    return turn();
}

/** Return after a time; throws as fetch does if the signal is aborted meanwhile. */
export function pause(milliseconds, signal) {
    return new Promise((resolve, reject) => {
        const stop = () => { clearTimeout(timer); reject(new DOMException("given up", "AbortError")); };
        const timer = setTimeout(() => { signal?.removeEventListener("abort", stop); resolve(); }, milliseconds);
        if (signal?.aborted) stop();
        else signal?.addEventListener("abort", stop, { once: true });
    });
}
