// Small graphs of the last minutes.

import { h, show, svg } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 56;

/** A graph with its number; `draw(values, text)` gives it what it shows, the newest last. */
export function graph(title) {
    const now = h("p", { class: "figure" }, "–");
    const line = svg("polyline", { class: "graph-line" });
    const area = svg("polygon", { class: "graph-area" });
    const picture = svg("svg", { class: "graph", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
    const most = h("p", { class: "hint" }, " ");
    const node = h("div", { class: "panel small" }, h("h3", {}, title), now, picture, most);
    const draw = (values, say) => {
        show(now, values.length ? say(values.at(-1)) : "–");
        const top = Math.max(...values, 0);
        show(most, top > 0 ? `at most ${say(top)}` : "nothing so far");
        const step = WIDTH / (Math.max(20, values.length) - 1);
        const from = WIDTH - (values.length - 1) * step;
        const points = values.map((value, index) => `${(from + index * step).toFixed(1)},${(HEIGHT - 2 - (top ? (value / top) * (HEIGHT - 6) : 0)).toFixed(1)}`);
        line.setAttribute("points", points.join(" "));
        area.setAttribute("points", values.length > 1 ? `${from.toFixed(1)},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}` : "");
    };
    return { node, draw };
}

export const MOST_SHOWN = 150;
