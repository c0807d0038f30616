// The first page: a stream of one's own, three commands, and what comes of them as it comes.

import { create, details } from "./api.js";
import { button, h, show } from "./dom.js";
import { fault, copyable, loading } from "./parts.js";
import { Messages } from "./messages.js";
import { to } from "./route.js";
import { curl } from "./snippets.js";

export const PATH = "try/hello";
const TYPE = "application/json";

export async function tryIt(place, { query }, signal) {
    const watched = h("div", { class: "watch" });
    const commands = curl(PATH, TYPE, '{"from": "curl"}');
    const step = (number, title, text, command) => h("li", {}, h("h2", {}, h("span", { class: "step", "aria-hidden": "true" }, String(number)), title), h("p", {}, text), copyable(command));
    show(place,
        h("div", { class: "hero" },
            h("h1", {}, "Watch your first stream"),
            h("p", {}, "A stream is a log with a URL. Whoever appends is told that it is on disk; whoever reads begins where they like, and follows. ",
                "Paste these into a terminal, and look at what arrives.")),
        h("div", { class: "try" },
            h("ol", { class: "steps" },
                step(1, "Append", "What is sent is stored, and then acknowledged.", commands.append),
                step(2, "Read", "All of it, from the beginning.", commands.read),
                step(3, "Follow", "From now on, as it comes; end it with Ctrl-C.", commands.follow)),
            h("section", { class: "panel watch-panel", "aria-label": "The stream, live" },
                h("div", { class: "heading" }, h("h2", {}, PATH),
                    h("a", { class: "button quiet", href: to("stream", PATH) }, "Open it")),
                watched)));
    const begin = async () => {
        show(watched, loading("Making a stream…"));
        try {
            await create(PATH, { "Content-Type": TYPE });
            const known = await details(PATH, signal);
            if (signal.aborted) return;
            const messages = new Messages(PATH, { contentType: TYPE, isJson: true }, known, query, signal);
            show(watched, messages.node);
            await messages.begin();
        } catch (error) {
            if (!signal.aborted) show(watched, fault(error), button("Try again", begin));
        }
    };
    begin();
    return "Try it";
}
