// Bytes as people read them. What could fool the eye (marks that turn the direction of writing, or
// take no room) or is no character is shown by its number.

const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]/g;
const LENIENT = new TextDecoder("utf-8", { ignoreBOM: true });
const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const numbered = (sign) => (sign === "\r" ? "␍" : `⟨${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

/** A text with nothing in it that cannot be seen. */
export const visible = (text) => text.replace(UNSEEN, numbered);

export const decode = (bytes) => LENIENT.decode(bytes);

export function isUtf8(bytes) {
    try {
        STRICT.decode(bytes);
        return true;
    } catch {
        return false;
    }
}

/** Whether bytes are no text, going by how they begin. */
export function isBinary(bytes) {
    const begin = bytes.subarray(0, 512);
    let odd = 0;
    for (const byte of begin) if (byte < 9 || (byte > 13 && byte < 32)) odd++;
    if (odd > begin.length / 10) return true;
    const text = decode(begin.subarray(0, Math.max(1, begin.length - 3)));
    return text.split("\ufffd").length - 1 > begin.length / 10;
}

/** The beginning of a message in one line. */
export function line(bytes, most = 300) {
    if (isBinary(bytes)) return hexLine(bytes.subarray(0, 48));
    return visible(decode(bytes.subarray(0, most * 2)).slice(0, most).replace(/\s*\n\s*/g, " "));
}

const hex = (byte) => byte.toString(16).padStart(2, "0");
const hexLine = (bytes) => Array.from(bytes, hex).join(" ");

/** Sixteen bytes a line: where they are, in hexadecimal, and as ASCII. */
export function hexDump(bytes, begin, lines) {
    const out = [];
    for (let at = begin; at < bytes.length && out.length < lines; at += 16) {
        const some = bytes.subarray(at, at + 16);
        const ascii = Array.from(some, (byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
        out.push(`${at.toString(16).padStart(8, "0")}  ${hexLine(some).padEnd(47)}  ${ascii}`);
    }
    return out.join("\n");
}

export function base64(bytes) {
    let text = "";
    for (let at = 0; at < bytes.length; at += 24_576) {
        text += btoa(String.fromCharCode(...bytes.subarray(at, at + 24_576)));
    }
    return text;
}

/**
 * JSON, a value a line. It is the text that is laid out, not the values: each number and each escape
 * stays as it was sent, and what is no JSON is laid out as far as it goes.
 */
export function pretty(text) {
    const out = [];
    let depth = 0;
    let at = 0;
    const newline = () => out.push("\n", "  ".repeat(Math.min(depth, 40)));
    while (at < text.length) {
        const sign = text[at];
        if (sign === '"') {
            let end = at + 1;
            while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
            out.push(text.slice(at, end + 1));
            at = end;
        } else if (sign === "{" || sign === "[") {
            const close = sign === "{" ? "}" : "]";
            const rest = text.slice(at + 1, at + 64).trimStart();
            if (rest.startsWith(close)) {
                out.push(sign, close);
                at = text.indexOf(close, at);
            } else {
                out.push(sign);
                depth++;
                newline();
            }
        } else if (sign === "}" || sign === "]") {
            depth = Math.max(0, depth - 1);
            newline();
            out.push(sign);
        } else if (sign === ",") {
            out.push(",");
            newline();
        } else if (sign === ":") {
            out.push(": ");
        } else if (!/\s/.test(sign)) {
            let end = at;
            while (end < text.length && !/[\s,:{}[\]"]/.test(text[end])) end++;
            out.push(text.slice(at, end));
            at = end - 1;
        }
        at++;
    }
    return out.join("");
}
