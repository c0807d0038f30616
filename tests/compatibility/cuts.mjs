// A reader of an event stream whose connection is cut off once. Prints which items it got, and
// "the end" if it came there, else what it threw.
//
//   node cuts.mjs URL READER HOW WHERE
//
// READER is "stream" (the client's own), "follow" (ours around it) or "fault" (the same, and it
// throws at the second item). HOW is "end" (as Node's fetch
// takes it if the server dies) or "error" (as a browser does, or behind a proxy). WHERE is
// "between" two events or "inside" one, before its offset.
import { DurableStream, stream } from "@durable-streams/client"
import { follow } from "./follow.mjs"
import { finish } from "./outages.mjs"

const [url, reader, how, where] = process.argv.slice(2)
const ITEMS = ["first", "second", "third"]
const seen = []
let isCut = false
let isLive
const live = new Promise((resolve) => (isLive = resolve))

function cutting() {
  const [decoder, encoder] = [new TextDecoder(), new TextEncoder()]
  return new TransformStream({
    transform(piece, controller) {
      const text = decoder.decode(piece)
      isLive()
      if (isCut || !text.includes("event: data")) return controller.enqueue(piece)
      isCut = true
      const whole = where === "between" ? text : text.slice(0, text.indexOf("event: control"))
      controller.enqueue(encoder.encode(whole))
      if (how === "end") return controller.terminate()
      setTimeout(() => controller.error(new TypeError("terminated")))
    },
  })
}

async function cuttingFetch(target, options) {
  const response = await fetch(target, options)
  if (!response.headers.get("Content-Type")?.includes("text/event-stream")) return response
  return new Response(response.body.pipeThrough(cutting()), response)
}

const client = { url, warnOnHttp: false, fetch: cuttingFetch, live: "sse" }
const READERS = {
  async stream() {
    const session = await stream({ ...client, json: true })
    session.subscribeJson((batch) => void seen.push(...batch.items))
    await session.closed
  },
  follow: () => follow(client, (items) => void seen.push(...items)),
  fault: () =>
    follow(client, (items) => {
      if (items.includes("second")) throw new TypeError("a fault of the program")
      seen.push(...items)
    }),
}

const handle = await DurableStream.create({ ...client, contentType: "application/json" })
const reading = READERS[reader]().then(
  () => "the end",
  (error) => error.message,
)
await live
for (const item of ITEMS) await handle.append(JSON.stringify(item))
await handle.close()
finish({ ended: await reading, seen })
