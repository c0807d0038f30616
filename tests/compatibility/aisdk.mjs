// The AI SDK's chat over @durable-streams/aisdk-transport: a page that stays, and one that is
// reloaded amid the answer and resumes it. Prints the text that each has at the end.
//
//   node aisdk.mjs URL WRITER EVENT
//
// WRITER is "theirs" (toDurableStreamResponse) or "producer" (ours, in its place). EVENT is one of
//   pause   the server is killed while the model thinks: nothing is being written
//   amid    it is killed while the answer is being written
//   answer  it is not killed, and the answer to one write is lost
import { createDurableChatTransport, toDurableStreamResponse } from "@durable-streams/aisdk-transport"
import { readUIMessageStream, streamText } from "ai"
import { MockLanguageModelV3 } from "ai/test"
import { begin, goOn, HALF, loseAnswer, quiet, until, words } from "./answering.mjs"
import { finish, kill, start } from "./outages.mjs"

const [url, writer, event] = process.argv.slice(2)
const NONE = { total: 0 }

async function* parts() {
  yield { type: "text-start", id: "t" }
  for await (const delta of words()) yield { type: "text-delta", id: "t", delta }
  yield { type: "text-end", id: "t" }
  const finishReason = { unified: "stop", raw: "stop" }
  yield { type: "finish", finishReason, usage: { inputTokens: NONE, outputTokens: NONE } }
}

const model = new MockLanguageModelV3({
  doStream: async () => ({ stream: ReadableStream.from(parts()) }),
})

// The application's server: POST begins an answer, GET says where the one under way is.
let active = null
const written = []

async function answer(request) {
  if (request.method === "GET") {
    if (active === null) return new Response(null, { status: 204 })
    return Response.json({ streamUrl: active }, { headers: { Location: active } })
  }
  const { messages } = await request.json()
  const source = streamText({ model, prompt: messages.at(-1).parts[0].text }).toUIMessageStream()
  active = url
  if (writer === "theirs") {
    const waitUntil = (writing) => written.push(writing)
    return await toDurableStreamResponse({ source, stream: { writeUrl: url }, waitUntil })
  }
  written.push((await begin(url, source, true)).written)
  return Response.json({ streamUrl: url }, { status: 201, headers: { Location: url } })
}

const open = () =>
  createDurableChatTransport({
    api: "http://application.example/api/chat",
    fetchClient: (target, init) => answer(new Request(target, init)),
  })

class Page {
  text = ""

  // Take the message in as it grows; what useChat does.
  async follow(stream) {
    for await (const message of readUIMessageStream({ stream }))
      this.text = message.parts.map((part) => part.text ?? "").join("")
  }
}

const question = { id: "q", role: "user", parts: [{ type: "text", text: "What is it?" }] }
const [stays, comesBack] = [new Page(), new Page()]
const asked = { trigger: "submit-message", chatId: "chat", messages: [question] }
const following = stays.follow(await open().sendMessages(asked))
if (event === "amid") {
  await until(() => stays.text, HALF.slice(0, HALF.length / 2))
  const killed = kill()
  goOn()
  await killed
  await start()
} else {
  await until(() => stays.text, HALF)
  await quiet()
  if (event === "pause") await kill().then(start)
  else loseAnswer()
  goOn()
}
const resuming = comesBack.follow(await open().reconnectToStream({ chatId: "chat" }))
await Promise.all([following, resuming, ...written])
finish({ stays: stays.text, comesBack: comesBack.text })
