// @durable-streams/state with TanStack DB: a table of messages that are written optimistically
// and confirmed by the stream. The server is killed in the middle of many writes. Prints which
// were confirmed, and what everybody has: the writer, its live query, and one who opens it later.
//
//   node state.mjs URL LIVE_MODE
import { DurableStream, IdempotentProducer } from "@durable-streams/client"
import { createStateSchema } from "@durable-streams/state"
import { createLiveQueryCollection, createStreamDB, eq } from "@durable-streams/state/db"
import { z } from "zod"
import { finish, kill, start } from "./outages.mjs"
import { persistentFetch } from "./persistent_fetch.mjs"

const [url, liveMode] = process.argv.slice(2)
const COUNT = 60
const streamOptions = {
  url,
  contentType: "application/json",
  warnOnHttp: false,
  backoffOptions: { initialDelay: 10, maxDelay: 100, multiplier: 1.3 },
}
const state = createStateSchema({
  messages: {
    schema: z.object({ id: z.string(), room: z.string(), text: z.string() }),
    type: "message",
    primaryKey: "id",
  },
})
const handle = await DurableStream.create(streamOptions)
const producer = new IdempotentProducer(handle, "writer", {
  fetch: persistentFetch(globalThis.fetch, 10, 100),
})

async function write(db, event) {
  producer.append(JSON.stringify(event))
  await db.utils.awaitTxId(event.headers.txid, 30_000)
}

function actions({ db }) {
  const headers = () => ({ txid: crypto.randomUUID() })
  return {
    post: {
      onMutate: (value) => void db.collections.messages.insert(value),
      mutationFn: (value) => write(db, state.messages.insert({ value, headers: headers() })),
    },
    edit: {
      onMutate: (value) =>
        void db.collections.messages.update(value.id, (row) => void (row.text = value.text)),
      mutationFn: (value) => write(db, state.messages.update({ value, headers: headers() })),
    },
    remove: {
      onMutate: ({ id }) => void db.collections.messages.delete(id),
      mutationFn: ({ id }) => write(db, state.messages.delete({ key: id, headers: headers() })),
    },
  }
}

async function open() {
  const live = liveMode === "long-poll" ? true : liveMode
  const db = createStreamDB({ streamOptions, live, state, actions })
  await db.preload()
  return db
}

const rows = (collection) => collection.toArray.map(({ id, room, text }) => ({ id, room, text }))

const db = await open()
const lobby = createLiveQueryCollection({
  startSync: true,
  query: (q) => q.from({ m: db.collections.messages }).where(({ m }) => eq(m.room, "lobby")),
})
const confirmed = []
const doing = []

function act(verb, value) {
  const transaction = db.actions[verb](value)
  const confirming = transaction.isPersisted.promise.then(() => confirmed.push([verb, value.id]))
  doing.push(confirming)
  return confirming
}

const message = (n) => ({ id: `m${n}`, room: n % 2 ? "lobby" : "hall", text: `text ${n}` })
for (let n = 0; n < COUNT / 2; n++) await act("post", message(n))
for (let n = COUNT / 2; n < COUNT; n++) act("post", message(n))
const outage = kill() // before they are stored, or while they are, or after
for (let n = 0; n < 10; n++) act("edit", { ...message(n), text: `edited ${n}` })
await outage
act("remove", message(10))
await start()
act("remove", message(11))
await Promise.all(doing)

const late = await open()
finish({
  confirmed,
  writer: rows(db.collections.messages),
  late: rows(late.collections.messages),
  lobby: rows(lobby),
})
