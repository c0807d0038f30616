// The same with other programs: commands for a shell, Python and JavaScript.

import { streamUrl, token } from "./api.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const literal = (text) => JSON.stringify(text);

export function curl(path, contentType, sample) {
    const url = quoted(String(streamUrl(path)));
    const who = token.get() ? ` -H "Authorization: Bearer $TOKEN"` : "";
    return {
        append: `curl${who} -H ${quoted(`Content-Type: ${contentType}`)} -d ${quoted(sample)} ${url}`,
        read: `curl${who} ${url}`,
        follow: `curl -N${who} ${quoted(`${streamUrl(path)}?offset=now&live=sse`)}`,
    };
}

export function python(path, contentType, sample) {
    const [given, who] = token.get() ? ['\ntoken = "…"', ', "Authorization": f"Bearer {token}"'] : ["", ""];
    return `import urllib.request

url = ${literal(String(streamUrl(path)))}${given}
headers = {"Content-Type": ${literal(contentType)}${who}}


def ask(url, body=None):
    return urllib.request.urlopen(urllib.request.Request(url, body, headers))


ask(url, ${literal(sample)}.encode())

offset = "-1"
while True:
    with ask(f"{url}?offset={offset}&live=long-poll") as answer:
        print(answer.read().decode())
        offset = answer.headers["Stream-Next-Offset"]
        if answer.headers["Stream-Closed"] == "true":
            break
`;
}

export function javascript(path, contentType, sample) {
    const [given, who] = token.get() ? ['\nconst token = "…";', ', "Authorization": `Bearer ${token}`'] : ["", ""];
    return `const url = ${literal(String(streamUrl(path)))};${given}
const headers = { "Content-Type": ${literal(contentType)}${who} };

await fetch(url, { method: "POST", headers, body: ${literal(sample)} });

let offset = "-1";
for (;;) {
    const answer = await fetch(\`\${url}?offset=\${offset}&live=long-poll\`, { headers });
    console.log(await answer.text());
    offset = answer.headers.get("Stream-Next-Offset");
    if (answer.headers.get("Stream-Closed") === "true") break;
}
`;
}

export const sampleOf = (isJson) => (isJson ? '{"hello": "world"}' : "hello");
