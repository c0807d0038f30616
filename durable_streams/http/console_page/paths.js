// Paths of streams. Their text form joins segments by "/"; within one "/" is "%2F" (and "%25" a "%").

const unescape = (segment) => segment.replace(/%(2F|25)/gi, (_, code) => (code === "25" ? "%" : "/"));

/** The URL path of a stream below the prefix, of its text. */
export const urlPath = (text) => text.split("/").map((one) => encodeURIComponent(unescape(one))).join("/");

/** Why a text can be no path; "" if it can. */
export function problem(text) {
    if (!text) return "Give the stream a path, such as chat/room-1.";
    const segments = text.split("/");
    if (segments.some((one) => one === "" || one === "." || one === "..")) {
        return "A path has no empty parts, and none that is . or ..";
    }
    if (segments[0] === "__ds") return "Paths below __ds belong to the server itself.";
    return "";
}

/** What is above a path: ["chat", "chat/rooms"] of "chat/rooms/1". */
export function above(text) {
    const segments = text.split("/");
    return segments.slice(1).map((_, index) => segments.slice(0, index + 1).join("/"));
}
