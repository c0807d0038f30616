// The server's outages: a program says when, and the test kills and starts it.
import { createInterface } from "node:readline"

const PATIENCE_MS = 120_000 // not a judgement on speed: what never happens ends the test
const replies = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
setTimeout(() => {
  console.error(`nothing came of it in ${PATIENCE_MS} ms`)
  process.exit(1)
}, PATIENCE_MS).unref()

async function order(word) {
  console.log(word)
  await replies.next()
}

// SIGKILL, and a start on the same directory and port; each returns when it is done.
export const kill = () => order("kill")
export const start = () => order("start")

// Say what became of everything, and end.
export function finish(outcome) {
  process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0))
}
