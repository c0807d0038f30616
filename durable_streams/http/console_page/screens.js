// Which screens there are, by what the URL calls them; each draws itself into a place.

import { access } from "./access.js";
import { list, mayWrite } from "./api.js";
import { Fault } from "./faults.js";
import { overview } from "./overview.js";
import { to } from "./route.js";
import { stream } from "./stream.js";
import { streams } from "./streams.js";
import { PATH, tryIt } from "./try.js";

/** The first page: for a newcomer, whose server has no stream yet, what to try. */
async function first(place, _, signal) {
    let isNew = false;
    try {
        isNew = (await list({ limit: 2 }, signal)).streams.every((row) => row.path === PATH);
    } catch (error) {
        if (!(error instanceof Fault)) throw error;
    }
    if (signal.aborted) return "";
    history.replaceState(null, "", to(isNew && mayWrite ? "try" : "overview"));
    dispatchEvent(new Event("hashchange"));
    return "";
}

export const screens = { "": first, overview, streams, stream, access, ...(mayWrite ? { try: tryIt } : {}) };
