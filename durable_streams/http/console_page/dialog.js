// Dialogs: the browser's own, which keep the focus and close by Escape.

import { button, h, show } from "./dom.js";
import { isAbort } from "./faults.js";
import { fault } from "./parts.js";

/**
 * Open a form in a dialog. `submit` is called with the dialog and may throw a fault, which is shown;
 * what it returns is given to `done` once the dialog is closed. `kind`: of its button.
 */
export function form({ title, content, action, kind = "primary", submit, done }) {
    const trouble = h("div", {});
    const go = h("button", { type: "submit", class: `button ${kind}` }, action);
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" },
        h("form", {
            method: "dialog", novalidate: true,
            onsubmit: async (event) => {
                event.preventDefault();
                go.disabled = true;
                show(trouble);
                try {
                    const result = await submit(dialog);
                    if (result === false) return;
                    dialog.close();
                    done?.(result);
                } catch (error) {
                    if (!isAbort(error)) show(trouble, fault(error));
                } finally {
                    go.disabled = false;
                }
            },
        },
        h("h2", { id: "dialog-title" }, title), content, trouble,
        h("div", { class: "row end" }, button("Cancel", () => dialog.close(), { kind: "quiet" }), go)));
    return opened(dialog);
}

/** Show something in a dialog, with a button that closes it. */
export function sheet(title, ...content) {
    const dialog = h("dialog", { class: "wide", "aria-labelledby": "dialog-title" },
        h("h2", { id: "dialog-title" }, title), content,
        h("div", { class: "row end" }, button("Close", () => dialog.close())));
    return opened(dialog);
}

function opened(dialog) {
    document.body.append(dialog);
    dialog.addEventListener("close", () => dialog.remove());
    addEventListener("hashchange", () => dialog.close(), { once: true });
    dialog.showModal();
    return dialog;
}
