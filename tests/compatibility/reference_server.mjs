// The reference server with its file-backed store: reference_server.mjs DATA_DIR; prints its URL, ends with stdin
import { DurableStreamTestServer } from "@durable-streams/server"

const server = new DurableStreamTestServer({ port: 0, dataDir: process.argv[2] })
console.log(await server.start())
process.stdin.resume()
process.stdin.on("end", async () => {
  await server.stop()
  process.exit(0)
})
