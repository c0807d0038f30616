// Somebody who edits a shared text, told what to do on stdin by a line of JSON each:
//
//   {"do": "open"}                open the document, and add what was typed without it
//   {"do": "paste", "text": "…"}  put a text at the end, at once
//   {"do": "type", "text": "…"}   type a text at the beginning, letter by letter, with a slip
//   {"do": "show"}                print the whole text
//
// Prints what happens:
//
//   open             the document is here
//   sees NAME        another editor is there
//   reads N          it asked for the document or its updates, for the Nth time
//   length N         the text has N characters now
//   stored N         the first N texts of this editor were acknowledged
//   lost N           the document was opened and lacks the text N, which was acknowledged
//   failed MESSAGE   the connection is lost; what is typed stays here until the next "open"
//   text "…"         the whole text
//
//   node editor.mjs YJS_SERVER_URL NAME LIVE_MODE
import { createInterface } from "node:readline"
import { YjsProvider } from "@durable-streams/y-durable-streams"
import { Awareness } from "y-protocols/awareness"
import * as Y from "yjs"

const [url, name, liveMode] = process.argv.slice(2)
const document = { baseUrl: `${url}/v1/yjs/desk`, docId: "shared/text" }
const texts = []
const seen = new Set([name])
let stored = 0
let doc = new Y.Doc()
let provider = null // null: what is typed stays in doc

let reads = 0

const say = (...words) => console.log(words.join(" "))

const { fetch } = globalThis
globalThis.fetch = (url, options) => {
  const { searchParams } = new URL(url)
  if (searchParams.has("offset") && !searchParams.has("awareness")) say("reads", ++reads)
  return fetch(url, options)
}

// The provider drops what it cannot send, and what it sends after a reconnect is taken for
// repetitions, for the producer is named after the document's client and counts from 0 again. So
// after a failure the document is opened afresh, and what it lacks is merged into it, as it is
// after working offline.
async function open() {
  close(provider)
  provider = null
  const fresh = new Y.Doc()
  const awareness = new Awareness(fresh)
  const opening = new YjsProvider({ ...document, doc: fresh, awareness, liveMode, connect: false })
  opening.on("error", (error) => {
    say("failed", error.message)
    if (provider === opening) provider = null
    queueMicrotask(() => close(opening)) // by itself it would now reconnect
  })
  awareness.on("change", () => greet(awareness))
  await opening.connect()
  if (!opening.connected) return
  const shared = fresh.getText()
  const found = shared.toString()
  texts.slice(0, stored).forEach((text, n) => found.includes(text) || say("lost", n))
  shared.observe(() => say("length", shared.length))
  say("length", shared.length)
  provider = opening
  Y.applyUpdate(fresh, Y.encodeStateAsUpdate(doc, Y.encodeStateVector(fresh)))
  doc = fresh
  awareness.setLocalStateField("name", name)
  say("open")
  await confirm()
}

function close(connection) {
  connection?.destroy()
  connection?.awareness.destroy()
}

function greet(awareness) {
  for (const state of awareness.getStates().values()) {
    if (state.name && !seen.has(state.name)) say("sees", state.name)
    seen.add(state.name)
  }
}

function paste(shared, text) {
  shared.insert(shared.length, text)
}

function type(shared, text) {
  for (let n = 0; n < text.length; n++) shared.insert(n, text[n])
  shared.insert(text.length, "slip")
  shared.delete(text.length, "slip".length)
}

function edit(change, text) {
  change(doc.getText(), text)
  texts.push(text)
  provider?.awareness.setLocalStateField("texts", texts.length) // as a cursor that moves
  return confirm()
}

// A provider that has sent everything without a failure got everything acknowledged.
async function confirm() {
  const [connection, count] = [provider, texts.length]
  await connection?.flush()
  if (connection === null || connection !== provider) return
  stored = Math.max(stored, count)
  say("stored", stored)
}

const orders = {
  open,
  paste: (text) => edit(paste, text),
  type: (text) => edit(type, text),
  show: () => say("text", JSON.stringify(doc.getText().toString())),
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line)
  void orders[order.do](order.text) // a rejection ends the process
}
process.exit()
