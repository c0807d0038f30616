// The official client: two idempotent producers and two live readers on one JSON stream, while
// somebody kills and restarts the server. Prints "acknowledged N" after every hundredth
// acknowledged request, and at the end one line of JSON: what each reader saw, in order.
//
//   node round_trip.mjs URL MESSAGES_PER_PRODUCER
import { DurableStream, IdempotentProducer } from "@durable-streams/client"
import { follow } from "../compatibility/follow.mjs"
import { persistentFetch } from "../compatibility/persistent_fetch.mjs"

const [url, count] = [process.argv[2], Number(process.argv[3])]
const backoffOptions = { initialDelay: 10, maxDelay: 200, multiplier: 1.3 }
const client = { url, backoffOptions, warnOnHttp: false }
const sseResilience = { maxShortConnections: Infinity } // stay with SSE, however often it breaks
const readers = {}
let acknowledged = 0

async function counted(...request) {
  const response = await fetch(...request)
  acknowledged += response.ok ? 1 : 0
  if (response.ok && acknowledged % 100 === 0) console.log(`acknowledged ${acknowledged}`)
  return response
}

function produce(handle, id) {
  const producer = new IdempotentProducer(handle, id, {
    fetch: persistentFetch(counted, 10, 10),
    lingerMs: 0,
    maxBatchBytes: 100,
    maxInFlight: 5,
    onError: (error) => {
      console.error(error)
      process.exit(1)
    },
  })
  for (let n = 0; n < count; n++) producer.append(JSON.stringify({ id, n }))
  return producer
}

async function read(name, live) {
  const seen = (readers[name] = [])
  await follow({ ...client, live, sseResilience }, (items) => {
    seen.push(...items.map(({ id, n }) => [id, n]))
  })
}

const handle = await DurableStream.create({ ...client, contentType: "application/json" })
const reading = [read("long-poll", "long-poll"), read("sse", "sse")]
const producers = [produce(handle, "left"), produce(handle, "right")]
await Promise.all(producers.map((producer) => producer.flush()))
await producers[0].close(JSON.stringify({ id: "last", n: 0 }))
await Promise.all(reading)
console.log(JSON.stringify(readers))
