// What changes a stream: each asks first, in a dialog, and says what became of it.

import { append, BASE, create, remove, streamUrl } from "./api.js";
import { choice, complain, field, h, show, toast } from "./dom.js";
import { form, sheet } from "./dialog.js";
import { urlPath, problem } from "./paths.js";
import { copyable, hint } from "./parts.js";
import { go } from "./route.js";
import { curl, javascript, python, sampleOf } from "./snippets.js";

const TYPES = ["application/json", "text/plain", "application/octet-stream"];

function pathInput(value) {
    return h("input", { value, required: true, autocomplete: "off", placeholder: "chat/room-1" });
}

/** The trouble with a path, told by the field itself; "" if there is none. */
function isWrong(input) {
    const trouble = problem(input.value.trim());
    complain(input, trouble);
    return trouble !== "";
}

export function createDialog(prefix = "") {
    const path = pathInput(prefix ? `${prefix}/` : "");
    const type = h("input", { value: TYPES[0], list: "content-types" });
    const types = h("datalist", { id: "content-types" }, TYPES.map((one) => h("option", { value: one })));
    const ttl = h("input", { type: "number", min: 1, placeholder: "never" });
    const first = h("textarea", { rows: 3 });
    form({
        title: "New stream",
        content: [
            field("Path", path, "Parts are separated by slashes."),
            field("Content type", type, "In application/json each message is a JSON value; in others, bytes."), types,
            field("Seconds that it lives without being used", ttl),
            field("First content", first, "It may be left empty."),
        ],
        action: "Create",
        submit: async () => {
            if (isWrong(path)) return false;
            const headers = { "Content-Type": type.value.trim() };
            if (ttl.value) headers["Stream-TTL"] = ttl.value;
            await create(path.value.trim(), headers, first.value || undefined);
            return path.value.trim();
        },
        done: (made) => { toast(`Created ${made}`); go("stream", made); },
    });
    path.focus();
}

export function forkDialog(source, offset, where) {
    const path = pathInput(`${source}-fork`);
    form({
        title: "Fork",
        content: [
            h("p", {}, "A new stream with all that ", h("strong", {}, source), ` has up to the place ${where}. It takes no copy.`),
            field("Path of the fork", path),
        ],
        action: "Fork",
        submit: async () => {
            if (isWrong(path)) return false;
            await create(path.value.trim(), {
                "Stream-Forked-From": `${BASE.pathname}${urlPath(source)}`,
                "Stream-Fork-Offset": offset,
            });
            return path.value.trim();
        },
        done: (made) => { toast(`Made the fork ${made}`); go("stream", made); },
    });
    path.select();
}

export function closeDialog(path, done) {
    form({
        title: "Close the stream",
        content: h("p", {}, "Nothing can be appended to ", h("strong", {}, path), " any more, and its readers learn that it has ended. That cannot be undone."),
        action: "Close it",
        kind: "danger",
        submit: () => append(path, { "Stream-Closed": "true" }),
        done: () => { toast("The stream is closed"); done(); },
    });
}

export function deleteDialog(path) {
    const typed = h("input", { autocomplete: "off" });
    const dialog = form({
        title: "Delete the stream",
        content: [
            h("p", {}, "All of ", h("strong", {}, path), " is deleted. That cannot be undone."),
            field("Type its path to say that you mean it", typed),
        ],
        action: "Delete it",
        kind: "danger",
        submit: async () => (typed.value === path ? remove(path) : false),
        done: () => { toast(`Deleted ${path}`); go("streams"); },
    });
    const go_ = dialog.querySelector("[type=submit]");
    go_.disabled = true;
    typed.oninput = () => { go_.disabled = typed.value !== path; };
    typed.focus();
}

/** How other programs do it. */
export function copyDialog(path, contentType, isJson) {
    const sample = sampleOf(isJson);
    const place = h("div", { class: "snippets" });
    const forms = {
        curl: () => Object.entries(curl(path, contentType, sample)).map(([name, text]) => [h("h3", {}, `To ${name}`), copyable(text)]),
        python: () => copyable(python(path, contentType, sample)),
        javascript: () => copyable(javascript(path, contentType, sample)),
    };
    const draw = (name) => show(place, forms[name]());
    sheet("Use it from a program",
        hint(String(streamUrl(path))),
        choice("Language", [["curl", "curl"], ["python", "Python"], ["javascript", "JavaScript"]], "curl", draw),
        place);
    draw("curl");
}
