// TanStack AI's resumable runs, kept on our server: a page whose connection is cut amid the answer
// goes on by itself, and one that is opened amid the answer joins the run. The server is killed
// while the answer is written. Prints the text that each has, and how often the model was asked.
//
//   node runs.mjs SERVER
import { resumeServerSentEventsResponse, toServerSentEventsResponse } from "@tanstack/ai"
import { ChatClient, fetchServerSentEvents } from "@tanstack/ai-client"
import { ANSWER, chunks, goOn, HALF, until } from "./answering.mjs"
import { durableRun } from "./durable_run.mjs"
import { finish, kill, start } from "./outages.mjs"
import { persistentFetch } from "./persistent_fetch.mjs"

const server = process.argv[2]
const cuts = []
let asked = 0
let runId

// The application's server.
async function answer(request) {
  const adapter = durableRun(request, server, persistentFetch(globalThis.fetch, 10, 100))
  if (request.method === "GET") return resumeServerSentEventsResponse({ adapter })
  if (adapter.resumeFrom() === null) asked++
  runId = request.headers.get("X-Run-Id")
  return toServerSentEventsResponse(chunks(), { durability: { adapter, batch: 4 } })
}

// The network between a page and the application: cuts has what cuts each connection.
async function fetchClient(target, init) {
  const response = await answer(new Request(target, init))
  const wire = new TransformStream({
    start: (controller) => void cuts.push(() => controller.error(new TypeError("cut"))),
  })
  return new Response(response.body.pipeThrough(wire), response)
}

const connection = fetchServerSentEvents("http://application.example/api/chat", {
  fetchClient,
  reconnect: { delayMs: 10 },
})

class Page {
  text = ""

  async follow(run) {
    for await (const chunk of run) this.text += chunk.delta ?? ""
  }
}

const chat = new ChatClient({ connection })
const text = () => {
  const message = chat.getMessages().at(-1)
  if (message?.role !== "assistant") return ""
  return message.parts.map(({ content }) => content ?? "").join("")
}
const asking = chat.sendMessage("What is it?")
await until(text, HALF.slice(0, HALF.length / 2))
cuts[0]()
const joins = new Page()
const joining = joins.follow(connection.joinRun(runId))
const killed = kill()
goOn()
await killed
await start()
await Promise.all([asking, joining])
const late = new Page()
await late.follow(connection.joinRun(runId))
await until(text, ANSWER)
finish({ run: runId, asked, connections: cuts.length, texts: [text(), joins.text, late.text] })
