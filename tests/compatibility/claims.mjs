// Producers that take over a name whose epoch is above theirs. Prints which had an error.
//
//   node claims.mjs URL
import { createFetchWithBackoff, DurableStream, IdempotentProducer } from "@durable-streams/client"
import { finish } from "./outages.mjs"
import { persistentFetch } from "./persistent_fetch.mjs"

const handle = await DurableStream.create({
  url: process.argv[2],
  contentType: "application/json",
  warnOnHttp: false,
})
const failed = []

async function produce(name, options) {
  const onError = () => failed.push(name)
  const producer = new IdempotentProducer(handle, "orders", { ...options, onError })
  producer.append(JSON.stringify(name))
  await producer.flush()
}

await produce("first", { epoch: 7 })
await produce("persistent", { autoClaim: true, fetch: persistentFetch() })
await produce("backoff", { autoClaim: true, fetch: createFetchWithBackoff(fetch) })
finish(failed)
