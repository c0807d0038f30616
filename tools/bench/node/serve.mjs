// The official Node server out of the box: with its file-backed store, serve.mjs PORT DATA_DIR, or
// with that in memory, serve.mjs PORT
import { DurableStreamTestServer } from "@durable-streams/server"

const [port, dataDir] = process.argv.slice(2)
const server = new DurableStreamTestServer({ port: Number(port), dataDir })
console.log(await server.start())

process.once("SIGTERM", async () => {
  await server.stop()
  process.exit(0)
})
