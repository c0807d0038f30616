// Reading live with @durable-streams/client, whatever the connection is cut off by. A restart ends
// an event stream; in a browser, or behind a proxy, that is an error, and the session with it. And
// what was cut off amid an event comes before its offset is known, and again afterwards.
import { stream } from "@durable-streams/client"

const LONGEST_PAUSE_MS = 500
const LAST_BATCH_MS = 5_000 // it is there already, or its connection was cut off as well

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// onBatch gets the items, each once and in order, and the offset behind them, to keep. Returns when
// the stream is closed; throws what the server refuses, and what onBatch throws.
export async function follow({ offset = "-1", ...options }, onBatch) {
  const aborted = new Promise((resolve) => options.signal?.addEventListener("abort", resolve))
  for (;;) {
    options.signal?.throwIfAborted()
    let isOver = false
    let thrown = null
    try {
      const session = await stream({ ...options, offset, json: true })
      const lastBatch = new Promise((resolve) => {
        session.subscribeJson((batch) => {
          const wasCut = batch.items.length > 0 && batch.offset === offset
          if (isOver || wasCut) return // it is asked for again
          try {
            onBatch(batch.items, batch.offset)
          } catch (error) {
            thrown = { error }
            resolve()
            throw error
          }
          offset = batch.offset
          if (batch.streamClosed) resolve()
        })
      })
      await Promise.race([session.closed, aborted])
      options.signal?.throwIfAborted()
      if (session.streamClosed) {
        if (session.offset !== offset) await Promise.race([lastBatch, pause(LAST_BATCH_MS)])
        if (session.offset === offset) return
      }
    } catch (error) {
      if (error.status || options.signal?.aborted) throw error
    } finally {
      isOver = true
    }
    if (thrown !== null) throw thrown.error
    await pause(Math.random() * LONGEST_PAUSE_MS)
  }
}
