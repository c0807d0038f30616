// A model that answers word by word, how its answer is written to a stream, and what is known of
// the requests that write it.
import { setTimeout as pause } from "node:timers/promises"
import { DurableStream, IdempotentProducer } from "@durable-streams/client"
import { persistentFetch } from "./persistent_fetch.mjs"

export const WORDS = Array.from({ length: 60 }, (_, n) => `word-${n} `)
export const ANSWER = WORDS.join("")
export const HALF = WORDS.slice(0, WORDS.length / 2).join("")

let goOn
const toldToGoOn = new Promise((resolve) => (goOn = resolve))

// The words; it stops at the half until somebody calls goOn().
export async function* words() {
  for (const [n, word] of WORDS.entries()) {
    if (n === WORDS.length / 2) await toldToGoOn
    await pause(2)
    yield word
  }
}
export { goOn }

// The same as TanStack AI has it.
export async function* chunks() {
  const run = { threadId: "chat", runId: crypto.randomUUID(), model: "none" }
  const message = { messageId: crypto.randomUUID(), model: "none" }
  yield { type: "RUN_STARTED", ...run }
  yield { type: "TEXT_MESSAGE_START", role: "assistant", ...message }
  let content = ""
  for await (const delta of words()) {
    content += delta
    yield { type: "TEXT_MESSAGE_CONTENT", delta, content, ...message }
  }
  yield { type: "TEXT_MESSAGE_END", ...message }
  yield { type: "RUN_FINISHED", finishReason: "stop", ...run }
}

let underWay = 0
let isLost = false
let quietNow = []
const plainFetch = globalThis.fetch

globalThis.fetch = async (...request) => {
  if (request[1]?.method !== "POST") return await plainFetch(...request)
  underWay++
  try {
    const response = await plainFetch(...request)
    if (!isLost) return response
    isLost = false
    throw new TypeError("the answer was lost")
  } finally {
    if (--underWay === 0) quietNow.splice(0).forEach((resolve) => resolve())
  }
}

// Resolves when no write is under way.
export const quiet = () => new Promise((resolve) => (underWay ? quietNow.push(resolve) : resolve()))

// The next write is done, and its answer is lost.
export const loseAnswer = () => void (isLost = true)

// Write chunks so that each is stored once, whatever happens to the server: once the stream is there
// for whoever reads it, this resolves to what resolves when all is written.
export async function begin(url, chunks, isWhole) {
  const client = { url, contentType: "application/json", warnOnHttp: false }
  const stream = await DurableStream.create(client)
  return { written: write(stream, chunks, isWhole) }
}

async function write(stream, chunks, isWhole) {
  const fetch = persistentFetch(globalThis.fetch, 10, 100)
  const producer = new IdempotentProducer(stream, crypto.randomUUID(), { fetch })
  for await (const chunk of chunks) producer.append(JSON.stringify(chunk))
  if (isWhole) await producer.close()
  else await producer.detach()
}

// Resolves when there is as much of the answer as this, or more.
export async function until(progress, part) {
  while (progress().length < part.length) await pause(2)
}
