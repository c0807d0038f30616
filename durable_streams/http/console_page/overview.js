// How the server is: health, disk and journal, what it does, whom it refuses.

import { nodes } from "./api.js";
import { h, renew, show } from "./dom.js";
import { Fault, isAbort } from "./faults.js";
import { ago, bytes, count, duration, many, moment, rate } from "./format.js";
import { graph } from "./graph.js";
import { empty, every, facts, fault, heading, hint, loading, panel, table, tableRow } from "./parts.js";
import { levels, look, rates } from "./samples.js";
import { to } from "./route.js";

const LOOKED_MS = 2000;

const perSecond = (value) => `${rate(value)}/s`;
const bytesPerSecond = (value) => `${bytes(Math.round(value))}/s`;

export async function overview(place, _, signal) {
    const graphs = [
        [graph("Appends"), () => rates("http_requests_total", { method: "POST", status: "2xx" }), perSecond],
        [graph("Reads"), () => rates("http_requests_total", { method: "GET", status: "2xx" }), perSecond],
        [graph("Received"), () => rates("http_received_bytes_total"), bytesPerSecond],
        [graph("Sent"), () => rates("http_sent_bytes_total"), bytesPerSecond],
        [graph("Live readers"), () => levels("http_live_readers"), count],
        [graph("Refused"), () => rates("http_refusals_total"), perSecond],
    ];
    const state = h("div", {}, loading());
    const pictures = h("div", { class: "graphs" }, graphs.map(([one]) => one.node));
    const rest = h("div", { class: "panels" });
    show(place, heading("Overview"), state);
    let others = [];
    let turn = 0;
    await every(LOOKED_MS, signal, async () => {
        try {
            const now = await look(signal);
            if (turn++ % 5 === 0) others = (await nodes(signal)).nodes;
            if (signal.aborted) return;
            if (!pictures.isConnected) show(place, heading("Overview"), state, pictures, rest);
            show(state, health(now));
            for (const [one, values, say] of graphs) one.draw(values(), say);
            renew(rest, [storage(now), process(now), refusals(now), nodesPanel(others)].filter(Boolean));
        } catch (error) {
            if (isAbort(error)) return;
            pictures.remove();
            rest.remove();
            const isForbidden = error instanceof Fault && (error.status === 403 || error.status === 401);
            show(state, isForbidden ? forbidden() : fault(error));
        }
    });
    return "Overview";
}

const forbidden = () => empty("How the server is",
    "That is told on its own machine, and to whoever has a token with the scope admin. The streams are there all the same.",
    h("a", { class: "button primary", href: to("streams") }, "Streams"));

/** In a sentence: whether it is well, and if not, what to do. */
function health(now) {
    const refused = now.of("store_writes_refused").filter((one) => one.value > 0).map((one) => one.labels.reason);
    const out = now.sum("store_streams_out_of_service") ?? 0;
    const version = now.of("build_info")[0]?.labels.version;
    let kind = "good";
    let text = "All is well";
    let more = "Writes are taken, and become durable.";
    if (now.sum("store_bug")) [kind, text, more] = ["bad", "A part of the server has ended by a bug", "Restart it; its log says more."];
    else if (refused.length) [kind, text, more] = ["bad", "No writes are taken", WHY[refused[0]] ?? refused[0]];
    else if (now.sum("store_writes_held_up")) [kind, text, more] = ["warn", "Writes wait for the disk", "They go on as soon as the files have what the journal holds."];
    else if (out > 0) [kind, text, more] = ["warn", `${many(out, "stream")} out of service`, "The others are served. The log names them and says why."];
    return h("div", { class: `health ${kind}`, role: "status" },
        h("span", { class: "dot", "aria-hidden": "true" }),
        h("div", {}, h("p", { class: "sentence" }, text), h("p", {}, more)),
        version && hint(`version ${version}`));
}

const WHY = {
    database_down: "The database does not answer.",
    database_migrated: "The database was migrated: install a version that knows its tables.",
    database_read_only: "The database takes no writes: it is a standby.",
    database_unconfirmed: "Too few standbys of the database confirm commits.",
    disk_full: "The disk is full: delete streams, or make room.",
    draining: "The server is stopping.",
    not_open: "The streams are not open yet.",
    storage_failed: "A sync failed: restart the server once the disk is well.",
    unavailable: "The data directory is not there.",
};

/** How much is taken of what there is. */
const share = (label, value, most, what = "") => h("div", { class: "meter-row" }, h("span", {}, label),
    h("meter", { value: most > 0 ? value / most : 0, min: 0, max: 1, low: 0.75, high: 0.9, optimum: 0, "aria-label": label }),
    h("span", { class: "number" }, `${count(value)} of ${count(most)} ${what}`));

function storage(now) {
    const number = (name) => now.sum(name) ?? 0;
    const [free, files] = [now.sum("disk_free_bytes"), now.sum("journal_files")];
    const mode = now.of("durability")[0]?.labels.mode;
    if (free === null && files === null) return panel("Storage", hint("The streams are in a database."));
    return panel("Storage",
        files !== null && share("Journal", files, number("journal_files_limit"), "files"),
        facts([
            mode && ["Durability", MODES[mode] ?? mode],
            free !== null && ["Disk", `${bytes(free)} free`],
            free !== null && ["Reserve", `${bytes(number("disk_reserve_bytes"))}, kept for deletions`],
            ["Files behind the journal", `${bytes(number("files_lag_bytes"))}, ${duration(number("files_lag_seconds"))}`],
            ["Streams in memory", count(number("store_open_streams"))],
            ["Checkpoints", count(number("checkpoints_total"))],
        ]));
}

const MODES = {
    fsync: "fsync: on disk before it is acknowledged",
    interval: "interval: synced now and then",
    none: "none: handed to the system",
};

function process(now) {
    const began = now.sum("process_start_time_seconds");
    const [connections, open] = [now.sum("http_connections"), now.sum("process_open_fds")];
    const [memory, seconds] = [now.sum("process_resident_memory_bytes"), now.sum("process_cpu_seconds_total")];
    return panel("Process",
        connections !== null && share("Connections", connections, now.sum("http_connections_limit") ?? 0),
        open !== null && share("Descriptors", open, now.sum("process_max_fds") ?? 0),
        facts([
            began && ["Began", `${moment(began * 1000)}, ${ago(began * 1000)}`],
            memory !== null && ["Memory", bytes(memory)],
            seconds !== null && ["Processor", `${duration(seconds)} in all`],
        ]));
}

function refusals(now) {
    const seen = now.of("http_refusals_total").filter((one) => one.value > 0).sort((one, other) => other.value - one.value);
    return panel("Refusals since it began", seen.length
        ? table("Refusals", ["Reason", "Requests"], seen.slice(0, 12).map((one) => tableRow(one.labels.reason.replaceAll("_", " "), one.value)))
        : hint("Nobody was refused."));
}

const nodesPanel = (all) => all.length > 1 && panel("Nodes", table("Nodes", ["Node", "Version", "Seen"],
    all.map((one) => tableRow([one.name, one.this && " (this one)"], one.version, ago(one.seen)))));
