// The official client against a server that may refuse it. Prints one line of JSON: what became of
// it, and how many requests it took. "follow" prints "reading" first, once it has what there is.
//
//   node access.mjs VERB URL HEADERS_AS_JSON
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client"

const [verb, url, headers] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])]
const MANY = 50 // requests: who needs more than that asks for ever
let requests = 0

const plainFetch = globalThis.fetch
globalThis.fetch = async (...request) => {
  if (++requests > MANY) {
    console.log(JSON.stringify({ outcome: "endless", requests }))
    process.exit(1)
  }
  return await plainFetch(...request)
}

const client = { url, headers, warnOnHttp: false }
const type = { contentType: "text/plain" }

async function produce() {
  const errors = []
  const producer = new IdempotentProducer(new DurableStream({ ...client, ...type }), "p", {
    autoClaim: true,
    lingerMs: 0,
    onError: (error) => errors.push(error),
  })
  producer.append("more")
  await producer.flush()
  if (errors.length) throw errors[0]
}

async function follow(live) {
  const session = await stream({ ...client, offset: "-1", live })
  session.subscribeText(() => console.log("reading"))
  await session.closed
}

const VERBS = {
  create: () => DurableStream.create({ ...client, ...type }),
  append: () => new DurableStream({ ...client, ...type }).append("some"),
  produce,
  finish: async () => {
    const handle = new DurableStream({ ...client, ...type })
    const options = { autoClaim: true, lingerMs: 0 }
    await new IdempotentProducer(handle, "q", options).close("last")
  },
  write: async () => {
    const writer = new DurableStream({ ...client, ...type }).writable({ lingerMs: 0 }).getWriter()
    await writer.write("written")
    await writer.close()
  },
  read: async () => await (await stream({ ...client, offset: "-1", live: false })).text(),
  sse: () => follow("sse"),
  "long-poll": () => follow("long-poll"),
  head: () => DurableStream.head(client),
  delete: () => DurableStream.delete(client),
}

try {
  const found = await VERBS[verb]()
  console.log(JSON.stringify({ outcome: typeof found === "string" ? found : "done", requests }))
} catch (error) {
  console.log(JSON.stringify({ outcome: error.name, status: error.status, requests }))
}
process.exit(0)
