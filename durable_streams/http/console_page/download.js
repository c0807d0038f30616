// Files for whoever sits here: a message, or a whole stream, read piece by piece.

import { read } from "./api.js";
import { h } from "./dom.js";

/** Have the browser save something by a name. */
export function save(blob, name) {
    const url = URL.createObjectURL(blob);
    const link = h("a", { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** All of a stream as it is now, as one file; `told(bytes)` how much is here. */
export async function whole(path, isJson, signal, told) {
    const parts = [];
    let offset = "-1";
    let size = 0;
    for (;;) {
        const answer = await read(path, { offset }, signal);
        let piece = await answer.blob();
        if (isJson) piece = piece.size > 2 ? piece.slice(1, piece.size - 1) : null;
        if (piece?.size) {
            if (isJson) parts.push(parts.length ? ",\n" : "[\n");
            parts.push(piece);
            size += piece.size;
        }
        told(size);
        const next = answer.headers.get("Stream-Next-Offset");
        if (answer.headers.get("Stream-Up-To-Date") === "true" || next === offset) break;
        offset = next;
    }
    if (isJson) parts.push(parts.length ? "\n]\n" : "[]\n");
    return new Blob(parts);
}
