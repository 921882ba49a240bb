// What the scripts share. The client finds DAYTONA_API_URL and DAYTONA_API_KEY in the environment, as a user's does.
import assert from 'node:assert/strict'

/** Run named steps in order, print a JSON summary, and fail the process when a step fails. */
export async function main(steps) {
  const summary = { passed: [], failed: {} }
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step()
      summary.passed.push(name)
    } catch (error) {
      summary.failed[name] = error.stack
    }
  }
  console.log(JSON.stringify(summary))
  process.exitCode = Object.keys(summary.failed).length === 0 ? 0 : 1
}

/** Assert that a promise is rejected with a class of the SDK and with these fields. */
export async function rejects(promise, kind, fields = {}) {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof kind, `${error.constructor.name}, not ${kind.name}: ${error.message}`)
    for (const [name, value] of Object.entries(fields)) assert.equal(error[name], value, name)
    return true
  })
}

/** Bytes of which no part is like another. */
export function pattern(size) {
  const bytes = Buffer.alloc(size)
  for (let at = 0; at + 4 <= size; at += 4) bytes.writeUInt32BE(at / 4, at)
  return bytes
}

/** Collect a stream. */
export async function collect(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}
