// All that is asked of the server: its public HTTP interface, below the prefix that this page is of.

import { Fault, isAbort } from "./faults.js";
import { urlPath } from "./paths.js";

export const BASE = new URL("../../", location.href.split("#")[0]);
const KEY = "durable-streams-token";

export const mode = document.documentElement.dataset.mode;
export const version = document.documentElement.dataset.version;
export const mayWrite = mode === "full";

// The token of whoever sits here: kept for this tab, and gone with it.
export const token = {
    get: () => sessionStorage.getItem(KEY) ?? "",
    set(text) {
        if (text) sessionStorage.setItem(KEY, text);
        else sessionStorage.removeItem(KEY);
        changed.dispatchEvent(new Event("token"));
    },
};

/** Tells of "token", "down" and "up". */
export const changed = new EventTarget();

let isUp = true;

function noteUp(now) {
    if (now !== isUp) changed.dispatchEvent(new Event(now ? "up" : "down"));
    isUp = now;
}

export const streamUrl = (path) => new URL(urlPath(path), BASE);

/** Ask; the answer if it is a good one, else a Fault is thrown. */
export async function ask(place, { query, headers, ...options } = {}) {
    const url = new URL(place, BASE);
    if (!url.href.startsWith(BASE.href)) throw new Fault(404, ""); // a link with ".." in its path
    for (const [name, value] of Object.entries(query ?? {})) {
        if (value !== undefined && value !== "") url.searchParams.set(name, value);
    }
    const said = new Headers(headers);
    if (token.get()) said.set("Authorization", `Bearer ${token.get()}`);
    let response;
    try {
        response = await fetch(url, { ...options, headers: said, cache: "no-store", redirect: "error" });
    } catch (error) {
        if (isAbort(error)) throw error;
        noteUp(false);
        throw new Fault(0, "");
    }
    noteUp(true);
    if (!response.ok) throw await Fault.of(response);
    return response;
}

const json = async (place, options) => (await ask(place, options)).json();

export const list = (query, signal) => json("__ds/streams", { query, signal });
export const details = (path, signal) => json(`__ds/streams/${urlPath(path)}`, { signal });
export const records = (path, query, signal) => json(`__ds/records/${urlPath(path)}`, { query, signal });
export const nodes = (signal) => json("__ds/nodes", { signal });
export const metrics = async (signal) => (await ask("__ds/metrics", { signal })).text();
export const tokens = (signal) => json("__ds/tokens", { signal });
export const newToken = (wanted) => json("__ds/tokens", { method: "POST", body: JSON.stringify(wanted) });
export const revokeToken = (id) => ask(`__ds/tokens/${encodeURIComponent(id)}`, { method: "DELETE" });
export const sign = (wanted) => json("__ds/signed-urls", { method: "POST", body: JSON.stringify(wanted) });

export const read = (path, query, signal) => ask(urlPath(path), { query, signal });
export const head = (path, signal) => ask(urlPath(path), { method: "HEAD", signal });
export const create = (path, headers, body) => ask(urlPath(path), { method: "PUT", headers, body });
export const append = (path, headers, body) => ask(urlPath(path), { method: "POST", headers, body });
export const remove = (path) => ask(urlPath(path), { method: "DELETE" });
