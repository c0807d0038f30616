// Who sits here: a token that is given once, kept for this tab, and sent with each request.

import { changed, token } from "./api.js";
import { button, field, h, show } from "./dom.js";
import { form } from "./dialog.js";

export function tokenButton() {
    const place = h("span", {});
    const draw = () => show(place, token.get()
        ? button("Forget the token", () => token.set(""), { kind: "quiet", symbol: "key" })
        : button("Use a token", askToken, { kind: "quiet", symbol: "key" }));
    changed.addEventListener("token", draw);
    draw();
    return place;
}

export function askToken() {
    const input = h("input", { type: "password", autocomplete: "off", placeholder: "dst_…" });
    form({
        title: "Use a token",
        content: field("Token", input,
            "It is kept for this tab only, sent to this server alone, and gone when the tab is closed."),
        action: "Use it",
        submit: () => input.value.trim() || false,
        done: (text) => token.set(text),
    });
    input.focus();
}
