// The same with other programs: commands for a shell, Python and JavaScript.

import { streamUrl, token } from "./api.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const literal = (text) => JSON.stringify(text);

export function curl(path, contentType, sample) {
    const url = quoted(String(streamUrl(path)));
    const who = token.get() ? ` -H "Authorization: Bearer $TOKEN"` : "";
    const query = (text) => quoted(`${streamUrl(path)}?${text}`);
    return {
        create: `curl${who} -X PUT -H ${quoted(`Content-Type: ${contentType}`)} ${url}`,
        append: `curl${who} -H ${quoted(`Content-Type: ${contentType}`)} -d ${quoted(sample)} ${url}`,
        read: `curl${who} ${url}`,
        follow: `curl -N${who} ${query("offset=now&live=sse")}`,
    };
}

export function python(path, contentType, sample) {
    const who = token.get() ? `, headers={"Authorization": f"Bearer {token}"}` : "";
    return `import json
import urllib.request

url = ${literal(String(streamUrl(path)))}${token.get() ? '\ntoken = "…"' : ""}


def ask(url, body=None, **headers):
    request = urllib.request.Request(url, body, headers)${who ? '\n    request.add_header("Authorization", f"Bearer {token}")' : ""}
    return urllib.request.urlopen(request)


ask(url, ${literal(sample)}.encode(), **{"Content-Type": ${literal(contentType)}})

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
    const who = token.get() ? ', "Authorization": `Bearer ${token}`' : "";
    return `const url = ${literal(String(streamUrl(path)))};${token.get() ? '\nconst token = "…";' : ""}

await fetch(url, {
    method: "POST",
    headers: { "Content-Type": ${literal(contentType)}${who} },
    body: ${literal(sample)},
});

let offset = "-1";
for (;;) {
    const answer = await fetch(\`\${url}?offset=\${offset}&live=long-poll\`${token.get() ? ', { headers: { "Authorization": `Bearer ${token}` } }' : ""});
    console.log(await answer.text());
    offset = answer.headers.get("Stream-Next-Offset");
    if (answer.headers.get("Stream-Closed") === "true") break;
}
`;
}

export const sampleOf = (isJson) => (isJson ? '{"hello": "world"}' : "hello");
