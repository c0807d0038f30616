// Appending by hand: a text, or files that are dropped.

import { append } from "./api.js";
import { button, h, icon, show, toast } from "./dom.js";
import { bytes } from "./format.js";
import { fault } from "./parts.js";

/** A form that appends to a stream; `done` is called when something was. */
export function composer(path, info, done) {
    const trouble = h("div", {});
    const text = h("textarea", {
        rows: 1, "aria-label": "What is appended",
        placeholder: info.isJson ? '{"a": "message"}   or an array of messages' : "Text to append; or drop a file here",
    });
    const send = h("button", { type: "submit", class: "button primary" }, icon("send"), h("span", {}, "Append"));
    const put = async (body) => {
        send.disabled = true;
        show(trouble);
        try {
            await append(path, { "Content-Type": info.contentType }, body);
            done();
            return true;
        } catch (error) {
            show(trouble, fault(error));
            return false;
        } finally {
            send.disabled = false;
        }
    };
    const submit = async () => {
        const problem = whatIsWrong(text.value, info.isJson);
        if (problem) show(trouble, h("p", { class: "problem", role: "alert" }, problem));
        else if (await put(text.value)) text.value = "";
        text.focus();
    };
    const files = async (list) => {
        for (const file of list) {
            if (!(await put(file))) return;
            toast(`Appended ${file.name}, ${bytes(file.size)}`);
        }
    };
    const picker = h("input", { type: "file", multiple: true, hidden: true, onchange: () => files(picker.files) });
    const node = h("form", {
        class: "composer", "aria-label": "Append",
        onsubmit: (event) => { event.preventDefault(); submit(); },
        onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); } },
        ondragover: (event) => { event.preventDefault(); node.classList.add("dropping"); },
        ondragleave: () => node.classList.remove("dropping"),
        ondrop: (event) => { event.preventDefault(); node.classList.remove("dropping"); files(event.dataTransfer.files); },
    }, h("div", { class: "composer-row" }, text, h("div", { class: "row" }, send, button("File…", () => picker.click(), { kind: "quiet" }), picker)), trouble);
    return node;
}

/** Why a text cannot be appended; "" if it can. */
function whatIsWrong(text, isJson) {
    if (!text) return "There is nothing to append.";
    if (!isJson) return "";
    try {
        JSON.parse(text);
        return "";
    } catch (error) {
        return `This is no JSON: ${error.message}`;
    }
}
