// One message: what is known of it, and its bytes in several forms, a piece at a time however long
// it is.

import { mayWrite } from "./api.js";
import { button, choice, h, icon, show, toast } from "./dom.js";
import { isAbort } from "./faults.js";
import { forkDialog } from "./actions.js";
import { bytes as sizeText, count, day, clock } from "./format.js";
import { copy, facts, fault, hint, loading } from "./parts.js";
import { save } from "./download.js";
import { base64, decode, hexDump, isBinary, isUtf8, pretty, visible } from "./text.js";

const PIECE = 64 * 1024;
const LINES = 1024;
const FORMS = [["json", "JSON"], ["text", "Text"], ["hex", "Hex"], ["base64", "Base64"]];

export class Detail {
    constructor(path, contents, info, onclose) {
        this.path = path;
        this.contents = contents;
        this.info = info;
        this.onclose = onclose;
        this.node = h("aside", { class: "detail", "aria-label": "Message", hidden: true });
        this.form = "";
        this.reading = new AbortController();
    }

    close() {
        this.reading.abort();
        this.node.hidden = true;
        show(this.node);
    }

    async open(record) {
        this.reading.abort();
        this.reading = new AbortController();
        const { signal } = this.reading;
        const body = h("div", { class: "detail-body" }, loading());
        this.node.hidden = false;
        show(this.node, this.#head(record), body);
        try {
            const bytes = await this.contents.whole(record, signal);
            if (!signal.aborted) this.#draw(body, record, bytes);
        } catch (error) {
            if (!isAbort(error)) show(body, fault(error, () => this.open(record)));
        }
    }

    #head(record) {
        return [
            h("div", { class: "detail-title" },
                h("h2", {}, record.size === 0 && record.closed ? "End of the stream" : "Message"),
                h("button", {
                    type: "button", class: "button quiet square", "aria-label": "Close the message", title: "Close",
                    onclick: () => this.onclose(),
                }, icon("close"))),
            facts([
                ["Offset", h("code", {}, record.start)],
                ["Behind it", h("code", {}, record.end)],
                ["Time", record.time ? `${day(record.time)} ${clock(record.time)}` : "not known"],
                ["Size", `${count(record.size)} B${record.size > 1023 ? ` (${sizeText(record.size)})` : ""}`],
                ["Producer", record.producer ? h("span", {}, h("bdi", {}, visible(record.producer.id)), ` epoch ${record.producer.epoch}, number ${record.producer.seq}`) : "none"],
                record.closed && ["Closes", "The stream ends here"],
            ]),
        ];
    }

    #draw(place, record, bytes) {
        const isText = isUtf8(bytes);
        if (!this.form || (this.form === "json" && !this.info.isJson)) {
            this.form = this.info.isJson ? "json" : isBinary(bytes) ? "hex" : "text";
        }
        const content = h("div", {});
        const draw = () => show(content, shown(this.form, bytes));
        const name = `${this.path.split("/").at(-1)}-${record.start}`;
        show(place,
            h("div", { class: "row" },
                choice("How it is shown", FORMS, this.form, (form) => { this.form = form; draw(); }),
                button("Copy", async () => { await copy(decode(bytes)); toast("Copied the message"); }, { kind: "quiet", symbol: "copy" }),
                button("Download", () => save(new Blob([bytes]), this.info.isJson ? `${name}.json` : name), { kind: "quiet", symbol: "down" }),
                button("Copy link", async () => { await copy(location.href); toast("Copied a link to this message"); }, { kind: "quiet", symbol: "link" }),
                mayWrite && button("Fork before it", () => forkDialog(this.path, record.start, "before this message"), { kind: "quiet", symbol: "fork" }),
                mayWrite && button("Fork after it", () => forkDialog(this.path, record.end, "after this message"), { kind: "quiet", symbol: "fork" })),
            !isText && h("p", { class: "note" }, "These bytes are no UTF-8: what is no character is shown as �. Hex and Base64 show all of them."),
            content);
        draw();
    }
}

/** Bytes in a form, a piece at a time. */
function shown(form, bytes) {
    if (!bytes.length) return hint("It has no content.");
    let text = "";
    if (form === "json") text = visible(pretty(decode(bytes)));
    else if (form === "text") text = visible(decode(bytes));
    else if (form === "base64") text = base64(bytes);
    const place = h("pre", { class: `content ${form}`, tabIndex: 0, "aria-label": "Content", dir: form === "text" || form === "json" ? "auto" : "ltr" });
    const total = form === "hex" ? Math.ceil(bytes.length / 16) : text.length;
    let at = 0;
    const rest = h("div", { class: "row" });
    const more = () => {
        const piece = form === "hex" ? hexDump(bytes, at * 16, LINES) : text.slice(at, at + PIECE);
        place.append(at && form === "hex" ? `\n${piece}` : piece);
        at = Math.min(total, at + (form === "hex" ? LINES : PIECE));
        show(rest, at < total && [
            h("span", { class: "hint" }, `${Math.round((100 * at) / total)} % of it is shown.`),
            button("Show more", more),
        ]);
    };
    more();
    return [place, rest];
}
