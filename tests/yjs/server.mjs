// The Yjs server, which stands between editors and our server. Prints its address once it listens
// and, of itself, a line for each snapshot it has made; what goes wrong it writes to stderr.
//
//   node server.mjs OUR_URL PORT
import { YjsServer } from "@durable-streams/y-durable-streams/server"

const [dsServerUrl, port] = process.argv.slice(2)
const compactionThreshold = 16 * 1024 // a paste is more
const server = new YjsServer({ dsServerUrl, port: Number(port), compactionThreshold })
console.log(`listening ${await server.start()}`)
