// The official suite as it is, whole. Its own command line names a file below node_modules, where
// its test runner looks for no tests, so this file makes the one call that command makes.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

runConformanceTests({ baseUrl: process.env.CONFORMANCE_TEST_URL })
