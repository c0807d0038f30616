// A test may take 60 s, not 5: the suites run beside others, and only one that hangs is to fail.
export default { test: { include: ["suite.test.js"], testTimeout: 60_000 } }
