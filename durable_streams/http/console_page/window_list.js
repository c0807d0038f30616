// A list of any length, of which only what is seen is in the page. Rows are of one height.

import { h } from "./dom.js";

const ROW = 30;
const BEYOND = 10;

export class WindowList {
    #rows = new Map();
    #length = 0;
    #chosen = -1;
    #isDrawing = false;

    /**
     * `draw(index)`: what is in a row; `key(index)`: changes when that does. `chosen(index)`: somebody
     * has taken one. `moved({first, last})`: others are seen now.
     */
    constructor({ label, draw, key, chosen, moved }) {
        this.draw = draw;
        this.key = key;
        this.onchosen = chosen;
        this.onmoved = moved;
        this.space = h("div", { class: "list-space" });
        this.node = h("div", {
            class: "list", role: "listbox", tabIndex: 0, "aria-label": label,
            onscroll: () => this.render(), onkeydown: (event) => this.#onkey(event),
            onclick: (event) => this.#onclick(event),
        }, this.space);
        this.watcher = new ResizeObserver(() => this.render());
        this.watcher.observe(this.node);
    }

    /** Have another length; `added` rows came before those that there were (or went, if negative). */
    resize(length, added = 0) {
        this.#length = length;
        this.space.style.height = `${length * ROW}px`;
        if (added) {
            if (this.#chosen >= 0) this.#chosen = Math.max(-1, this.#chosen + added);
            this.node.scrollTop += added * ROW;
        }
        this.render();
    }

    toEnd() {
        this.node.scrollTop = this.#length * ROW;
        this.render();
    }

    toTop(index) {
        this.node.scrollTop = index * ROW;
        this.render();
    }

    choose(index, { quietly = false } = {}) {
        this.#chosen = index;
        if (index >= 0) {
            const top = index * ROW;
            const { scrollTop, clientHeight } = this.node;
            if (top < scrollTop) this.node.scrollTop = top;
            else if (top + ROW > scrollTop + clientHeight) this.node.scrollTop = top + ROW - clientHeight;
        }
        this.render();
        if (!quietly && index >= 0) this.onchosen(index);
    }

    /** Draw what is seen now. */
    render() {
        if (this.#isDrawing) return;
        this.#isDrawing = true;
        const first = Math.max(0, Math.floor(this.node.scrollTop / ROW) - BEYOND);
        const seen = Math.ceil((this.node.clientHeight || 600) / ROW) + 2 * BEYOND;
        const last = Math.min(this.#length, first + seen);
        for (const [index, row] of this.#rows) {
            if (index < first || index >= last) {
                row.remove();
                this.#rows.delete(index);
            }
        }
        for (let index = first; index < last; index++) this.#drawRow(index);
        const active = this.#rows.get(this.#chosen);
        if (active) this.node.setAttribute("aria-activedescendant", active.id);
        else this.node.removeAttribute("aria-activedescendant");
        this.#isDrawing = false;
        this.onmoved({ first, last });
    }

    #drawRow(index) {
        let row = this.#rows.get(index);
        if (!row) {
            row = h("div", { class: "list-row", role: "option" });
            row.style.transform = `translateY(${index * ROW}px)`;
            this.#rows.set(index, row);
            this.space.append(row);
        }
        row.dataset.index = index;
        row.id = `row-${index}`;
        row.setAttribute("aria-selected", String(index === this.#chosen));
        row.setAttribute("aria-posinset", index + 1);
        row.setAttribute("aria-setsize", this.#length);
        const key = this.key(index);
        if (row.dataset.key !== key) {
            row.dataset.key = key;
            row.replaceChildren(...this.draw(index));
        }
    }

    #onclick(event) {
        const row = event.target.closest("[role=option]");
        if (row) this.choose(Number(row.dataset.index));
    }

    #onkey(event) {
        const page = Math.max(1, Math.floor(this.node.clientHeight / ROW) - 1);
        const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
        if (by === undefined || !this.#length) return;
        event.preventDefault();
        const from = this.#chosen < 0 ? Math.floor(this.node.scrollTop / ROW) - 1 : this.#chosen;
        this.choose(Math.max(0, Math.min(this.#length - 1, from + by)));
    }

    close() {
        this.watcher.disconnect();
    }
}
