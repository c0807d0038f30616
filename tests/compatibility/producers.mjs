// A producer that is given COUNT messages at once, and three readers. Prints how many errors the
// producer told, whether it could close the stream, and what each reader saw.
//
//   node producers.mjs URL FETCH IN_FLIGHT EVENT COUNT
//
// FETCH is "fetch", "backoff" (createFetchWithBackoff) or "persistent". EVENT is one of
//   kill        the server is killed, and started at once, when a third of the requests was
//               acknowledged
//   outage      it is killed then, and started when the producer has sent everything
//   overtaking  it is not killed, and the second request arrives after the third
import { createFetchWithBackoff, DurableStream, IdempotentProducer } from "@durable-streams/client"
import { follow } from "./follow.mjs"
import { finish, kill, start } from "./outages.mjs"
import { persistentFetch } from "./persistent_fetch.mjs"

const [url, fetchKind, inFlight, event, count] = process.argv.slice(2)
const MESSAGES_PER_REQUEST = 5
const third = Math.floor(Number(count) / MESSAGES_PER_REQUEST / 3)
const backoffOptions = { initialDelay: 10, maxDelay: 100, multiplier: 1.3 }
const client = { url, backoffOptions, warnOnHttp: false }
const errors = []
let acknowledged = 0
let killed = Promise.resolve()

async function counted(...request) {
  const response = await fetch(...request)
  if (response.ok && ++acknowledged === third) {
    killed = kill() // the producer goes on meanwhile
    if (event === "kill") killed = killed.then(start)
  }
  return response
}

let isAnswered
const later = new Promise((resolve) => (isAnswered = resolve))

async function overtaking(...request) {
  const number = request[1].headers["Producer-Seq"]
  if (number === "1") await later
  const response = await fetch(...request)
  if (number === "2") isAnswered()
  return response
}

const under = event === "overtaking" ? overtaking : counted
const FETCHES = {
  fetch: () => under,
  backoff: () => createFetchWithBackoff(under, backoffOptions),
  persistent: () => persistentFetch(under, 10, 100),
}

async function read(live) {
  const seen = []
  await follow({ ...client, live }, (items) => void seen.push(...items.map(({ n }) => n)))
  return seen
}

// One that ends now and then, as programs do, and goes on where it was.
async function resume() {
  const seen = []
  for (let [offset, closed] = ["-1", false]; !closed; ) {
    const ending = new AbortController()
    const following = follow({ ...client, offset, signal: ending.signal }, (items, behind) => {
      seen.push(...items.map(({ n }) => n))
      offset = behind
      if (items.length > 0) ending.abort()
    })
    closed = await following.then(
      () => true,
      () => false, // a refusal would come again for ever, and the test would say so
    )
  }
  return seen
}

const handle = await DurableStream.create({ ...client, contentType: "application/json" })
const readers = { "long-poll": read("long-poll"), sse: read("sse"), resumed: resume() }
const producer = new IdempotentProducer(handle, "orders", {
  fetch: FETCHES[fetchKind](),
  maxInFlight: Number(inFlight),
  maxBatchBytes: MESSAGES_PER_REQUEST * JSON.stringify({ n: 1000 }).length,
  onError: (error) => errors.push(error),
})
for (let n = 1000; n < 1000 + Number(count); n++) producer.append(JSON.stringify({ n }))
await producer.flush()
if (event === "outage") await killed.then(start)
const closed = await producer.close().then(
  () => true,
  () => false,
)
if (!closed) await handle.close() // so that the readers come to an end
const seen = {}
for (const [name, reading] of Object.entries(readers)) seen[name] = await reading
finish({ errors: errors.length, closed, seen })
