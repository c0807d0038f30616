// Who may do what: tokens, and URLs that are signed for somebody who has none.

import { mayWrite, newToken, revokeToken, sign, tokens } from "./api.js";
import { button, field, h, show, toast } from "./dom.js";
import { form, sheet } from "./dialog.js";
import { Fault } from "./faults.js";
import { moment } from "./format.js";
import { copyable, empty, fault, heading, hint, loading, panel, table, tableRow } from "./parts.js";
import { askToken } from "./token_box.js";

const SCOPES = ["read", "append", "create", "delete", "fork", "list", "admin"];
const KINDS = [["prefix", "all below a prefix"], ["path", "one path"], ["glob", "a pattern (glob)"]];
const TIMES = [["3600", "an hour"], ["86400", "a day"], ["2592000", "30 days"], ["31536000", "a year"]];

export async function access(place, _, signal) {
    const list = h("div", { class: "streams" }, loading());
    const make = mayWrite && button("New token", () => newTokenDialog(draw), { kind: "primary", symbol: "plus", hidden: true });
    show(place, heading("Access", make), list);
    const draw = async () => {
        try {
            const { tokens: all } = await tokens(signal);
            if (make) make.hidden = false;
            show(list, panel("Tokens", tokenTable(all, draw)), signer());
        } catch (error) {
            if (signal.aborted) return;
            show(list, withoutTokens(error) ?? fault(error, draw));
        }
    };
    await draw();
    return "Access";
}

function withoutTokens(error) {
    if (!(error instanceof Fault)) return null;
    if (error.status === 404 || error.status === 400) { // without tokens that is no place at all
        return empty("Everybody may do everything",
            "This server has no tokens: whoever reaches it may read and write all streams. To have it ask, start it with --tokens FILE; “durable-streams token new” makes one.");
    }
    if (error.status === 401) {
        return empty("Who are you?", "Tokens are shown to whoever has one with the scope admin.", button("Use a token", askToken, { kind: "primary", symbol: "key" }));
    }
    if (error.status === 403) return empty("That takes the scope admin", "The token that you use has it on no stream. Signed URLs can be made by whoever may read.", button("Use another token", askToken));
    return null;
}

const grantText = (grant) => {
    const [kind] = KINDS.find(([name]) => name in grant);
    const what = kind === "prefix" && grant.prefix === "" ? "all streams" : grant[kind];
    return `${grant.scopes.join(", ")} on ${kind === "prefix" && grant.prefix ? `${what}/…` : what}`;
};

function tokenTable(all, again) {
    if (!all.length) return hint("There is none that you may see.");
    return table("Tokens", ["Token", "May", "Expires", h("span", { class: "unseen" }, "Actions")], all.map((one) => tableRow(
        [h("strong", {}, one.id), one.note && hint(one.note)],
        one.grants.map((grant) => h("div", {}, grantText(grant))),
        one.expires ? moment(one.expires) : "never",
        mayWrite && button("Revoke", () => revokeDialog(one.id, again), { kind: "quiet danger", "aria-label": `Revoke ${one.id}` }))));
}

function revokeDialog(id, again) {
    form({
        title: "Revoke the token",
        content: h("p", {}, "Whoever uses ", h("strong", {}, id), " is refused from now on, also where they follow a stream."),
        action: "Revoke it",
        kind: "danger",
        submit: () => revokeToken(id),
        done: () => { toast(`Revoked ${id}`); again(); },
    });
}

const select = (options, more) => h("select", more, options.map(([value, text]) => h("option", { value }, text)));
const until = (seconds) => new Date(Date.now() + Number(seconds) * 1000).toISOString();

function newTokenDialog(again) {
    const id = h("input", { placeholder: "worker-1" });
    const text = h("input", {});
    const kind = select(KINDS);
    const where = h("input", { placeholder: "chat" });
    const expires = select([["", "never"], ...TIMES]);
    const boxes = SCOPES.map((scope) => h("input", { type: "checkbox", value: scope, checked: scope === "read" }));
    form({
        title: "New token",
        content: [
            field("Name", id, "Letters, digits and dashes; one is made if you give none."),
            field("Note", text),
            h("fieldset", {}, h("legend", {}, "It may"), h("div", { class: "row" }, SCOPES.map((scope, index) => h("label", { class: "inline" }, boxes[index], scope)))),
            field("On", kind), field("Which", where, "Nothing, with a prefix, is all streams."),
            field("Expires after", expires),
        ],
        action: "Make it",
        submit: () => newToken({
            id: id.value.trim() || null,
            note: text.value.trim() || null,
            expires: expires.value ? until(expires.value) : null,
            grants: [{ scopes: boxes.filter((one) => one.checked).map((one) => one.value), [kind.value]: where.value.trim() }],
        }),
        done: (made) => {
            again();
            sheet(`The token ${made.id}`, h("p", {}, "This is its text. It is shown this once, and kept nowhere: copy it now."), copyable(made.token));
        },
    });
    id.focus();
}

/** A form that signs a URL for a stream, or for all below a prefix. */
function signer() {
    const kind = select(KINDS.slice(0, 2).reverse());
    const where = h("input", { required: true, placeholder: "chat/room-1" });
    const expires = select(TIMES);
    const made = h("div", {});
    return panel("A URL for somebody without a token", h("form", {
        class: "signer",
        onsubmit: async (event) => {
            event.preventDefault();
            try {
                const signed = await sign({ [kind.value]: where.value.trim(), expires: until(expires.value) });
                show(made, hint(`Whoever has it may read until ${moment(signed.expires)}.`), copyable(signed.url));
            } catch (error) {
                show(made, error instanceof Fault && error.status === 404
                    ? hint("This server signs no URLs: start it with --signing-keys FILE.")
                    : fault(error));
            }
        },
    }, field("To read", kind), field("Path", where), field("For", expires), h("button", { type: "submit", class: "button" }, "Sign it")), made);
}
