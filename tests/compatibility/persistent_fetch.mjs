// A fetch for the producer of @durable-streams/client, which leaves all retries to it. Without an
// answer, or where the server or a proxy says that it is not there now, the same request is sent
// again: its number makes that harmless. Every other answer is the producer's, refusals too: it
// waits for what was overtaken (409), and claims its name (403).
const NOT_NOW = [429, 502, 503, 504]

export function persistentFetch(fetch = globalThis.fetch, firstMs = 50, longestMs = 5_000) {
  return async (...request) => {
    for (let delay = firstMs; ; delay = Math.min(2 * delay, longestMs)) {
      const response = await fetch(...request).catch((error) => {
        if (!(error instanceof TypeError)) throw error // it was aborted, say
      })
      if (response && !NOT_NOW.includes(response.status)) return response
      const asked = 1_000 * (Number(response?.headers.get("Retry-After")) || 0)
      await response?.body?.cancel()
      await new Promise((resolve) => setTimeout(resolve, Math.max(asked, Math.random() * delay)))
    }
  }
}
