// Recordings through the SDK.
import assert from 'node:assert/strict'
import { readFile, rm } from 'node:fs/promises'
import { Daytona, DaytonaError, DaytonaNotFoundError } from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create()
const { recording } = sandbox.computerUse
let begun

try {
  await main({
    async withoutADesktop() {
      await rejects(recording.start(), DaytonaError, { statusCode: 503 })
      assert.deepEqual((await recording.list()).recordings, [])
    },
    async start() {
      await sandbox.computerUse.start()
      begun = await recording.start('my test-1.x')
      assert.equal(begun.status, 'recording')
      assert.ok(begun.filePath.endsWith(begun.fileName))
      assert.equal((await recording.get(begun.id)).status, 'recording')
      await rejects(recording.delete(begun.id), DaytonaError, { statusCode: 400 })
    },
    async stop() {
      const done = await recording.stop(begun.id)
      assert.deepEqual([done.id, done.status, done.startTime], [begun.id, 'completed', begun.startTime])
      assert.ok(done.durationSeconds > 0)
      assert.deepEqual(await recording.get(begun.id), done)
      assert.deepEqual((await recording.list()).recordings, [done])
      await rejects(recording.stop(begun.id), DaytonaNotFoundError)
    },
    async download() {
      const { sizeBytes } = await recording.get(begun.id)
      await recording.download(begun.id, 'film.mp4')
      const content = await readFile('film.mp4')
      await rm('film.mp4')
      assert.deepEqual([content.length, content.toString('latin1', 4, 8)], [sizeBytes, 'ftyp'])
    },
    async deleteIt() {
      await recording.delete(begun.id)
      await rejects(recording.get(begun.id), DaytonaNotFoundError)
      assert.deepEqual((await recording.list()).recordings, [])
    },
    async labels() {
      await rejects(recording.start('../x'), DaytonaError, { statusCode: 400 })
    },
  })
} finally {
  await sandbox.delete()
}
