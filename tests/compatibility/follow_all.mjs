// Follows streams of strings to their end, half of them by SSE, whatever their server goes through,
// and prints how many there were and a checksum of them, for each stream.
//
//   node follow_all.mjs URL...
import { createHash } from "node:crypto"
import { follow } from "./follow.mjs"

const backoffOptions = { initialDelay: 10, maxDelay: 1_000, multiplier: 1.3 }
const sseResilience = { maxShortConnections: Infinity } // stay with SSE, however often it breaks

async function read(url, live) {
  const sha256 = createHash("sha256")
  let count = 0
  await follow({ url, live, backoffOptions, sseResilience, warnOnHttp: false }, (items) => {
    for (const item of items) sha256.update(count++ === 0 ? item : `\n${item}`)
  })
  return { count, sha256: sha256.digest("hex") }
}

const urls = process.argv.slice(2)
const reading = urls.map((url, n) => read(url, n % 2 === 0 ? "sse" : "long-poll"))
console.log(JSON.stringify(await Promise.all(reading)))
