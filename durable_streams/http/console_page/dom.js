// Elements, made of plain values. Whatever is put in is text: there is no way to put in HTML.

const AS_PROPERTY = new Set(["value", "checked", "disabled", "hidden", "open", "selected", "tabIndex"]);
const SVG = "http://www.w3.org/2000/svg";

function put(node, attributes) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
        if (value === undefined || value === null || value === false) continue;
        if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
        else if (AS_PROPERTY.has(name)) node[name] = value;
        else node.setAttribute(name, value === true ? "" : value);
    }
}

function fill(node, children) {
    for (const child of children.flat(Infinity)) {
        if (child !== undefined && child !== null && child !== false) node.append(child);
    }
    return node;
}

/** An element; children are elements or text, and those that are null or false are left out. */
export function h(tag, attributes, ...children) {
    const node = document.createElement(tag);
    put(node, attributes);
    return fill(node, children);
}

/** An element of SVG. */
export function svg(tag, attributes, ...children) {
    const node = document.createElementNS(SVG, tag);
    put(node, attributes);
    return fill(node, children);
}

/** Have an element hold these and nothing else. */
export function show(node, ...children) {
    node.replaceChildren();
    return fill(node, children);
}

/** Have an element hold these, where those that look the same stay, and so does the focus. */
export function renew(node, children) {
    children.forEach((child, index) => {
        const old = node.children[index];
        if (!old) node.append(child);
        else if (!old.isEqualNode(child)) {
            const isHere = old.contains(document.activeElement);
            old.replaceWith(child);
            if (isHere) child.querySelector("a")?.focus();
        }
    });
    while (node.children.length > children.length) node.lastChild.remove();
}

/** An icon: a few strokes on a grid of 24, for the eye only. */
export function icon(name) {
    return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" },
        svg("path", { d: ICONS[name] }));
}

const ICONS = {
    overview: "M4 19V11M10 19V5M16 19v-6M21 19H3",
    streams: "M4 7h10M4 12h16M4 17h7",
    access: "M7 11V8a5 5 0 0 1 10 0v3M5 11h14v9H5z",
    try: "M8 5l11 7-11 7z",
    plus: "M12 5v14M5 12h14",
    down: "M12 4v11M7 11l5 5 5-5M5 20h14",
    copy: "M9 9h11v11H9zM5 15H4V4h11v1",
    fork: "M6 4v16M6 12c6 0 11-2 11-8M17 4v0",
    close: "M6 6l12 12M18 6L6 18",
    trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
    send: "M4 12h14M13 6l6 6-6 6",
    lock: "M8 11V8a4 4 0 0 1 8 0v3M6 11h12v9H6z",
    search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l5 5",
    pause: "M9 5v14M15 5v14",
    play: "M8 5l11 7-11 7z",
    key: "M14 10a4 4 0 1 0-4 4c.5 0 1 0 1.4-.3L13 15h2v2h2v2h3v-3l-6.3-6.3",
    theme: "M12 4a8 8 0 1 0 8 8 6 6 0 0 1-8-8z",
    link: "M10 14l4-4M8 12l-2 2a3 3 0 0 0 4 4l2-2M16 12l2-2a3 3 0 0 0-4-4l-2 2",
    refresh: "M20 12a8 8 0 1 1-2.5-5.8M20 4v5h-5",
};

/** A button; `kind`: "primary", "quiet", "danger" or nothing. */
export function button(label, onclick, { kind = "", symbol, ...more } = {}) {
    return h("button", { type: "button", class: `button ${kind}`, onclick, ...more },
        symbol && icon(symbol), h("span", {}, label));
}

/** A field with its label. */
export function field(label, input, hint) {
    const id = input.id || `f${++made}`;
    input.id = id;
    const told = hint && h("p", { class: "hint", id: `${id}-hint` }, hint);
    if (told) input.setAttribute("aria-describedby", told.id);
    return h("div", { class: "field" }, h("label", { for: id }, label), input, told);
}

let made = 0;

/** Say what is wrong with what is in a field, until it is changed. */
export function complain(input, text) {
    input.setCustomValidity(text);
    input.reportValidity();
    input.oninput = () => input.setCustomValidity("");
}

/** Options to choose one of, as a row of buttons. */
export function choice(label, options, chosen, onchoose) {
    const group = h("div", { class: "choice", role: "group", "aria-label": label });
    const draw = (value) => show(group, options.map(([name, text]) =>
        h("button", {
            type: "button", "aria-pressed": String(name === value), "data-value": name,
            onclick: () => { draw(name); onchoose(name); group.querySelector(`[data-value="${name}"]`)?.focus(); },
        }, text)));
    draw(chosen);
    return group;
}

/** Tell who cannot see it what has happened. */
export function say(text) {
    document.getElementById("said").textContent = text;
}

/** A short word at the edge of the page that goes away by itself. */
export function toast(text) {
    const note = h("div", { class: "toast" }, text);
    document.getElementById("toasts")?.append(note);
    say(text);
    setTimeout(() => note.remove(), 4000);
}
