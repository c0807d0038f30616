// What TanStack AI keeps a run in. Its own adapter, @tanstack/ai-durable-stream, was not to be had
// from npm; this one makes the same requests: a stream for each run, with the name encoded whole;
// batches of numbered records by a producer, repeated once if there was no answer; reading by
// event stream; offsets that are the place of a batch and the number of a record.
import { resolveResumeRunId } from "@tanstack/ai"

const CURSOR = "tanstack-ai-ds:v1:"

// The events of an event stream, as [name, data]; one that is cut off is dropped.
async function* eventsOf(body) {
  let text = ""
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    text += piece
    const events = text.split("\n\n")
    text = events.pop()
    for (const event of events) {
      const fields = event.split("\n").map((line) => line.split(/:(.*)/s))
      const values = (name) => fields.filter(([key]) => key === name).map(([, value]) => value)
      if (values("data").length > 0) yield [values("event")[0].trim(), values("data").join("\n")]
    }
  }
}

export function durableRun(request, server, fetch = globalThis.fetch) {
  const url = `${server}/streams/${encodeURIComponent(`runs/${resolveResumeRunId(request)}`)}`
  const producer = crypto.randomUUID()
  const numbers = { request: 0, record: 1 }
  let tail // undefined until the stream is there

  async function ask(method, headers, body) {
    const asked = { method, headers, body }
    const response = await fetch(url, asked).catch(() => fetch(url, asked))
    const offset = response.headers.get("Stream-Next-Offset")
    if (!response.ok || !offset) throw new Error(`${method}: ${response.status} ${offset}`)
    tail = offset
    return response
  }

  async function append(chunks) {
    if (tail === undefined) await ask("PUT", { "Content-Type": "application/json" })
    const before = tail
    const records = chunks.map((chunk) => ({ v: 1, seq: numbers.record++, chunk }))
    const numbered = {
      "Content-Type": "application/json",
      "Producer-Id": producer,
      "Producer-Epoch": "0",
      "Producer-Seq": String(numbers.request++),
    }
    await ask("POST", numbered, JSON.stringify(records))
    return records.map(({ seq }) => cursor(before, seq))
  }

  function cursor(backendOffset, seq) {
    return CURSOR + encodeURIComponent(JSON.stringify({ v: 1, backendOffset, seq }))
  }

  async function* read(from, signal) {
    let [offset, seen, streamCursor, isClosed] = [from, 0, undefined, false]
    if (from.startsWith(CURSOR)) {
      const kept = JSON.parse(decodeURIComponent(from.slice(CURSOR.length)))
      ;({ backendOffset: offset, seq: seen } = kept)
    }
    while (!isClosed && !signal?.aborted) {
      const query = new URLSearchParams({ offset, live: "sse" })
      if (streamCursor !== undefined) query.set("cursor", streamCursor)
      const asked = [offset, streamCursor].join()
      const response = await fetch(`${url}?${query}`, { signal })
      if (!response.ok) throw new Error(`read: ${response.status}`)
      try {
        for await (const [event, data] of eventsOf(response.body)) {
          const value = JSON.parse(data)
          if (event === "control") {
            ;({ streamNextOffset: offset, streamCursor, streamClosed: isClosed = false } = value)
            if (!isClosed && !streamCursor) throw new Error("no cursor")
          } else if (event === "data") {
            for (const { seq, chunk } of value) {
              if (seq > seen) yield { offset: cursor(offset, (seen = seq)), chunk }
            }
          } else throw new Error(`unexpected event ${event}`)
        }
      } catch (error) {
        if (!(error instanceof TypeError)) throw error // the server is gone: it may come back
        continue
      }
      if (asked === [offset, streamCursor].join()) throw new Error("it did not go on")
    }
  }

  async function close() {
    if (tail === undefined) await ask("PUT", { "Content-Type": "application/json" })
    const response = await ask("POST", { "Stream-Closed": "true" })
    if (response.headers.get("Stream-Closed") !== "true") throw new Error("it was not closed")
  }

  const { searchParams } = new URL(request.url)
  const resumeFrom = () => request.headers.get("Last-Event-ID") ?? searchParams.get("offset")
  return { resumeFrom, append, read, close }
}
