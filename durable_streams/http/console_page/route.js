// Where in the console one is: all of it is behind the "#" of the URL, which no server gets to see.

/** What the URL says: {name, path, query}. */
export function here() {
    const [place, query] = location.hash.replace(/^#\/?/, "").split("?");
    const [name, ...rest] = place.split("/");
    return { name, path: decode(rest.join("/")), query: new URLSearchParams(query ?? "") };
}

function decode(text) {
    try {
        return decodeURIComponent(text);
    } catch {
        return text;
    }
}

/** The URL of a place; a query's empty values are left out. */
export function to(name, path = "", query = {}) {
    const kept = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null && value !== false);
    const text = new URLSearchParams(kept).toString();
    const where = path ? `/${path.split("/").map(encodeURIComponent).join("/")}` : "";
    return `#/${name}${where}${text ? `?${text}` : ""}`;
}

export const go = (...place) => { location.hash = to(...place); };

/** Say in the URL what is shown now, without going anywhere. */
export function note(changes) {
    const { name, path, query } = here();
    const all = { ...Object.fromEntries(query), ...changes };
    history.replaceState(null, "", to(name, path, all));
}
