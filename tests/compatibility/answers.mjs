// Appends without a producer, whose answers are lost on their way: the client asks again. Prints
// the statuses of what was refused.
//
//   node answers.mjs URL
import { DurableStream } from "@durable-streams/client"
import { finish } from "./outages.mjs"

let isLost = false
const refused = {}

async function losingAnswers(...request) {
  const response = await fetch(...request)
  if (!isLost) return response
  isLost = false
  throw new TypeError("the answer was lost")
}

const handle = await DurableStream.create({
  url: process.argv[2],
  contentType: "application/json",
  warnOnHttp: false,
  fetch: losingAnswers,
  backoffOptions: { initialDelay: 10, maxDelay: 100, multiplier: 1.3 },
})

async function withoutAnswer(name, request) {
  isLost = true
  await request().catch((error) => (refused[name] = error.status))
}

await withoutAnswer("append", () => handle.append(`"append"`))
await withoutAnswer("append with seq", () => handle.append(`"append with seq"`, { seq: "1" }))
await withoutAnswer("close with a message", () => handle.close({ body: `"closed"` }))
finish(refused)
