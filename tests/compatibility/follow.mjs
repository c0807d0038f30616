// Reading live with @durable-streams/client, whatever the connection is cut off by. A restart ends
// an event stream; in a browser, or behind a proxy, that is an error, and the session with it. And
// what was cut off amid an event comes before its offset is known, and again afterwards.
import { stream } from "@durable-streams/client"

// onBatch gets the items, each once and in order, and the offset behind them, to keep. Returns when
// the stream is closed; throws what the server refuses.
export async function follow({ offset = "-1", ...options }, onBatch) {
  for (let closed = false; !closed; ) {
    try {
      const session = await stream({ ...options, offset, json: true })
      const lastBatch = new Promise((resolve) => {
        session.subscribeJson((batch) => {
          if (batch.items.length === 0 || batch.offset !== offset) {
            offset = batch.offset
            onBatch(batch.items, offset)
          }
          if (batch.streamClosed) resolve()
        })
      })
      await session.closed
      closed = session.streamClosed
      if (closed && session.offset !== offset) await lastBatch
    } catch (error) {
      if (error.status || options.signal?.aborted) throw error
    }
  }
}
