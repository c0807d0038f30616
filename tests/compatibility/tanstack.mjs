// TanStack AI's chat over @durable-streams/tanstack-ai-transport: a page that stays, and one that
// opens the chat amid an answer, from a snapshot. Prints the messages that each has at the end.
//
//   node tanstack.mjs URL WRITER EVENT
//
// WRITER is "theirs" (toDurableChatSessionResponse) or "producer" (ours, in its place). EVENT is
// "pause" (the server is killed while the model thinks) or "amid" (while the answer is written).
import {
  durableStreamConnection,
  ensureDurableChatSessionStream,
  materializeSnapshotFromDurableStream,
  sanitizeChunkForStorage,
  toDurableChatSessionResponse,
  toMessageEchoChunks,
} from "@durable-streams/tanstack-ai-transport"
import { ChatClient } from "@tanstack/ai-client"
import { ANSWER, begin, chunks, goOn, HALF, quiet, until } from "./answering.mjs"
import { finish, kill, start } from "./outages.mjs"

const [url, writer, event] = process.argv.slice(2)
const written = []

async function* session(question) {
  yield* toMessageEchoChunks(question)
  for await (const chunk of chunks()) yield sanitizeChunkForStorage(chunk)
}

// The application's server.
async function answer(request) {
  const question = (await request.json()).messages.at(-1)
  if (writer === "theirs") {
    return await toDurableChatSessionResponse({
      stream: { writeUrl: url },
      newMessages: [question],
      responseStream: chunks(),
      waitUntil: (writing) => written.push(writing),
    })
  }
  written.push((await begin(url, session(question), false)).written)
  return new Response(null, { status: 202 })
}

class Page {
  constructor(snapshot) {
    const connection = durableStreamConnection({
      sendUrl: "http://application.example/api/chat",
      readUrl: url,
      initialOffset: snapshot?.offset,
      fetchClient: (target, init) => answer(new Request(target, init)),
    })
    this.client = new ChatClient({ connection, initialMessages: snapshot?.messages })
    this.client.subscribe()
  }

  get messages() {
    const text = ({ parts }) => parts.map(({ content }) => content ?? "").join("")
    return this.client.getMessages().map((message) => [message.role, text(message)])
  }

  // What it has of the last answer.
  get text() {
    const [role, text] = this.messages.at(-1) ?? []
    return role === "assistant" ? text : ""
  }

  async ask(question) {
    await this.client.sendMessage(question)
  }
}

await ensureDurableChatSessionStream({ writeUrl: url })
const stays = new Page()
const asking = stays.ask("What is it?")
if (event === "amid") {
  await until(() => stays.text, HALF.slice(0, HALF.length / 2))
  const killed = kill()
  goOn()
  await killed
  await start()
} else {
  await until(() => stays.text, HALF)
  await quiet()
  await kill().then(start)
}
const opens = new Page(await materializeSnapshotFromDurableStream({ readUrl: url }))
goOn()
await Promise.all([asking, ...written])
await until(() => opens.text, ANSWER)
await opens.ask("And then?")
await Promise.all(written)
for (const page of [stays, opens])
  await until(() => (page.messages.length < 4 ? "" : page.text), ANSWER)
finish({ stays: stays.messages, opens: opens.messages })
