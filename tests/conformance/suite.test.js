// The official suite as it is, whole. Its own command line names a file below node_modules, where
// its test runner looks for no tests, so this file makes the one call that command makes.
//
// The suite can be told no headers: with CONFORMANCE_TEST_TOKEN all requests go through here, its
// own and those of the official client, and get the token.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

const token = process.env.CONFORMANCE_TEST_TOKEN
if (token) {
  const plainFetch = globalThis.fetch
  globalThis.fetch = (input, init) => {
    const request = new Request(input, init)
    request.headers.set("Authorization", `Bearer ${token}`)
    return plainFetch(request)
  }
}
runConformanceTests({ baseUrl: process.env.CONFORMANCE_TEST_URL })
