// Small graphs of the last minutes, by the clock.

import { h, show, svg } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 56;
const LEAST_MS = 40_000;

/** A graph with its number; `draw(points, say)`: what it shows, each {at, value}, the newest last. */
export function graph(title) {
    const now = h("p", { class: "figure" }, "–");
    const line = svg("polyline", { class: "graph-line" });
    const area = svg("polygon", { class: "graph-area" });
    const picture = svg("svg", { class: "graph", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
    const most = h("p", { class: "hint" }, " ");
    const node = h("div", { class: "panel small" }, h("h3", {}, title), now, picture, most);
    const draw = (points, say) => {
        const last = points.at(-1);
        show(now, last ? say(last.value) : "–");
        if (!last) return;
        const top = Math.max(...points.map((one) => one.value));
        show(most, top > 0 ? `at most ${say(top)}` : "nothing so far");
        const span = Math.max(LEAST_MS, last.at - points[0].at);
        const x = (at) => (WIDTH - ((last.at - at) / span) * WIDTH).toFixed(1);
        const y = (value) => (HEIGHT - 2 - (top ? (value / top) * (HEIGHT - 6) : 0)).toFixed(1);
        const path = points.map((one) => `${x(one.at)},${y(one.value)}`).join(" ");
        line.setAttribute("points", path);
        area.setAttribute("points", `${x(points[0].at)},${HEIGHT} ${path} ${WIDTH},${HEIGHT}`);
    };
    return { node, draw };
}
