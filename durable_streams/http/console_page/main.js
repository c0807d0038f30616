// The frame around all screens: where one is, who one is, and whether the server answers.

import { changed, mayWrite, mode, version } from "./api.js";
import { h, icon, show } from "./dom.js";
import { fault } from "./parts.js";
import { here, to } from "./route.js";
import { lookSeldom } from "./samples.js";
import { screens } from "./screens.js";
import { themeButton } from "./theme.js";
import { tokenButton } from "./token_box.js";

const PLACES = [
    ["overview", "Overview", "overview"],
    ["streams", "Streams", "streams"],
    ["access", "Access", "access"],
    ["try", "Try it", "try"],
].filter(([name]) => mayWrite || name !== "try");

const main = h("main", { id: "main", tabIndex: -1 });
const links = h("nav", { class: "places", "aria-label": "Console" });
const down = h("div", { class: "down", role: "status", hidden: true },
    "The server does not answer. This page goes on when it does.");

let leaving = new AbortController();
let shown = "";

function frame() {
    return [
        h("header", { class: "top" },
            h("a", { class: "brand", href: to("overview") }, icon("streams"), h("span", {}, "Durable Streams")),
            links,
            h("div", { class: "who" },
                mode === "read-only" && h("span", { class: "badge", title: "This console changes nothing" }, "read-only"),
                tokenButton(), themeButton())),
        down,
        main,
        h("footer", { class: "foot" }, `Durable Streams ${version}`),
        h("div", { id: "toasts", class: "toasts" }),
        h("div", { id: "said", class: "unseen", role: "status", "aria-live": "polite" }),
    ];
}

function drawPlaces(name) {
    const at = name === "stream" ? "streams" : name;
    show(links, PLACES.map(([place, label, symbol]) =>
        h("a", { href: to(place), "aria-current": place === at ? "page" : null }, icon(symbol), h("span", {}, label))));
}

async function open() {
    const place = here();
    leaving.abort();
    leaving = new AbortController();
    const { signal } = leaving;
    const screen = screens[place.name] ?? screens[""];
    const name = screens[place.name] ? place.name : "";
    drawPlaces(name || "overview");
    try {
        const title = await screen(show(main), place, signal);
        if (title && !signal.aborted) document.title = `${title} · Durable Streams`;
    } catch (error) {
        if (!signal.aborted) show(main, fault(error, open));
    }
    const key = `${place.name}/${place.path}`;
    if (shown && shown !== key && !signal.aborted) main.focus({ preventScroll: true });
    shown = key;
}

addEventListener("hashchange", () => {
    // The link that skips to the content is one of the page, and no place.
    if (location.hash !== "#main") open();
});
changed.addEventListener("token", open);
changed.addEventListener("down", () => { down.hidden = false; });
changed.addEventListener("up", () => { down.hidden = true; });

show(document.getElementById("app"), frame());
open();
lookSeldom();
