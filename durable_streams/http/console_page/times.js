// What somebody types to say where to go: a time, in words or figures, or an offset.

import { token } from "./records.js";

const BACK = /^-\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)[a-z]*$/i;
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 };
const CLOCK = /^(?:(today|yesterday)\s*)?(?:(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?)?$/i;

/** {offset} or {since}, an RFC 3339 time; null if it is neither. */
export function place(text, now = new Date()) {
    const said = text.trim();
    if (/^\d+_\d+$/.test(said)) {
        const [segment, position] = said.split("_");
        return { offset: token(Number(segment), Number(position)) };
    }
    if (said === "-1" || said === "now") return { offset: said };
    const back = BACK.exec(said);
    if (back) return at(new Date(now - Number(back[1]) * SECONDS[back[2].toLowerCase()] * 1000));
    const clock = said ? CLOCK.exec(said) : null;
    if (clock) {
        const day = new Date(now);
        if (clock[1]?.toLowerCase() === "yesterday") day.setDate(day.getDate() - 1);
        day.setHours(Number(clock[2] ?? 0), Number(clock[3] ?? 0), 0, Number(clock[4] ?? 0) * 1000);
        return at(day);
    }
    const date = new Date(/^\d{4}-\d{2}-\d{2}$/.test(said) ? `${said}T00:00` : said.replace(" ", "T"));
    return /^\d{4}-/.test(said) && !Number.isNaN(date.getTime()) ? at(date) : null;
}

const at = (date) => (Number.isNaN(date.getTime()) ? null : { since: date.toISOString() });
