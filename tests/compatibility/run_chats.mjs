// Chats of docs/runs.rst over the AI SDK's own transport, and over the durable one: a page that
// stays, one that is reloaded amid the answer, one that asks the same again, and a stop.
//
//   node run_chats.mjs URL TRANSPORT
//
// TRANSPORT is "default" (useChat's) or "durable". Prints the text of each page, the type of the
// last chunk that each had, and whether there is anything to resume when all is over.
import { createDurableChatTransport } from "@durable-streams/aisdk-transport"
import { DefaultChatTransport } from "ai"
import { finish } from "./outages.mjs"
import { until } from "./answering.mjs"

const [url, transport] = process.argv.slice(2)

const open = () =>
  transport === "default"
    ? new DefaultChatTransport({ api: `${url}/api/chat` })
    : createDurableChatTransport({ api: `${url}/api/durable` })

class Page {
  text = ""
  last = ""

  async follow(stream) {
    for await (const chunk of stream) {
      this.text += chunk.delta ?? ""
      this.last = chunk.type
    }
    return this
  }
}

const ask = (id, text) => ({
  trigger: "submit-message",
  chatId: "chat",
  messages: [{ id, role: "user", parts: [{ type: "text", text }] }],
})

async function pagesOf(question, amid) {
  const [stays, again, comesBack] = [new Page(), new Page(), new Page()]
  const following = [stays.follow(await open().sendMessages(question))]
  await until(() => stays.text, "word-0 ")
  following.push(again.follow(await open().sendMessages(question)))
  following.push(comesBack.follow(await open().reconnectToStream({ chatId: "chat" })))
  await amid?.()
  return await Promise.all(following)
}

const answered = await pagesOf(ask("q1", "What is it?"))
const stopped = await pagesOf(ask("q2", "Something endless"), () =>
  fetch(`${url}/api/chat/chat/stream`, { method: "DELETE" }),
)
const left = await open().reconnectToStream({ chatId: "chat" })
finish({ answered, stopped, left })
