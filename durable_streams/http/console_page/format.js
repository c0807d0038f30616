// Numbers, sizes and times as people read them.

const NUMBER = new Intl.NumberFormat("en-US");
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export const count = (value) => NUMBER.format(value);

/** "1 stream", "2 streams". */
export const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

export function bytes(value) {
    let unit = 0;
    let size = value;
    while (size >= 1024 && unit < UNITS.length - 1) {
        size /= 1024;
        unit++;
    }
    const digits = unit === 0 || size >= 100 ? 0 : 1;
    return `${size.toFixed(digits)} ${UNITS[unit]}`;
}

export function rate(value) {
    if (value === 0) return "0";
    if (value < 10) return value.toFixed(1);
    if (value < 10_000) return count(Math.round(value));
    return `${(value / 1000).toFixed(value < 100_000 ? 1 : 0)}k`;
}

const two = (value) => String(value).padStart(2, "0");

/** The time of an instant, here, with milliseconds: 14:03:07.120. */
export function clock(text) {
    const at = new Date(text);
    return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

export function day(text) {
    const at = new Date(text);
    return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/** Date and time here, to the second. */
export const moment = (text) => `${day(text)} ${clock(text).slice(0, 8)}`;

/** For messages of today the time, for older ones the date as well. */
export function when(text) {
    if (!text) return "";
    return day(text) === day(Date.now()) ? clock(text) : `${day(text).slice(5)} ${clock(text).slice(0, 8)}`;
}

export function duration(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 120) return `${whole} s`;
    if (whole < 7200) return `${Math.round(whole / 60)} min`;
    if (whole < 172_800) return `${Math.round(whole / 3600)} h`;
    return `${Math.round(whole / 86_400)} days`;
}

/** How long ago that was. */
export function ago(text) {
    if (!text) return "never";
    const seconds = (Date.now() - new Date(text)) / 1000;
    return seconds < 1.5 ? "now" : `${duration(seconds)} ago`;
}

/** An offset without the zeros that pad it. */
export function short(offset) {
    const [segment, position] = offset.split("_");
    return `${Number(segment)}:${Number(position)}`;
}
