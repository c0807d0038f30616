export default { test: { include: ["suite.test.js"] } }
