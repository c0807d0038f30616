// The official Node server with its file-backed store, out of the box: serve.mjs PORT DATA_DIR
import { DurableStreamTestServer } from "@durable-streams/server"

const [port, dataDir] = process.argv.slice(2)
const server = new DurableStreamTestServer({ port: Number(port), dataDir })
console.log(await server.start())

process.once("SIGTERM", async () => {
  await server.stop()
  process.exit(0)
})
