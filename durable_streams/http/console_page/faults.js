// What went wrong, as a sentence, and what to do about it.

const SAID = {
    0: ["The server does not answer.", "It may be restarting, or the network is away. This page tries again by itself."],
    400: ["The server does not understand that.", "Change what it names below, and try again."],
    401: ["The server wants to know who you are.", "Give a token that it knows: “Use a token”, at the top."],
    403: ["You may not do that.", "Use a token that has the scope, or ask whoever runs the server for one."],
    404: ["There is nothing at this path.", "It may have expired, or been deleted. Look for it in the list of streams."],
    405: ["The server does not take that here.", "The console and the server may be of different versions: reload the page."],
    408: ["That came too slowly.", "Try again."],
    409: ["That does not fit what the stream is now.", "Look at the stream, and try again."],
    410: ["That is gone.", "Begin at what is left of the stream."],
    413: ["That is too large for one append.", "Send it in parts, or have --max-append-bytes raised."],
    429: ["That is more than one may have.", "Wait a moment. Limits are up to whoever runs the server."],
    500: ["The server failed.", "Its log says more. Other streams are served all the same."],
    503: ["The server cannot do that now.", "Try again in a moment."],
    507: ["The disk is full.", "Delete streams that nobody needs, or make room; deletions are taken."],
};

/** An answer that is a refusal, or no answer at all (status 0). */
export class Fault extends Error {
    constructor(status, detail, headers) {
        const [sentence, advice] = SAID[status] ?? SAID[status >= 500 ? 500 : 400];
        super(sentence);
        this.status = status;
        this.advice = advice;
        this.detail = detail;
        this.headers = headers;
    }

    static async of(response) {
        const text = await response.text().catch(() => "");
        const isPlain = (response.headers.get("Content-Type") ?? "").startsWith("text/plain");
        return new Fault(response.status, isPlain ? text.trim().slice(0, 500) : "", response.headers);
    }
}

/** Whether something was only given up, as nobody needs it any more. */
export const isAbort = (error) => error?.name === "AbortError";

/** What there is to say of any error: {sentence, advice, detail}. */
export function told(error) {
    if (error instanceof Fault) return { sentence: error.message, advice: error.advice, detail: error.detail };
    return {
        sentence: "The console met something that it does not know.",
        advice: "Reload the page. If it stays, that is a bug: please report it.",
        detail: String(error?.message ?? error),
    };
}
