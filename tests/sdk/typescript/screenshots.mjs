// Screenshots of the SDK. Its takeRegion mixes up its arguments, whatever the server does: takeCompressedRegion is right.
import assert from 'node:assert/strict'
import { Daytona, DaytonaError } from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create()
const region = { x: 100, y: 50, width: 301, height: 199 }
const { screenshot } = sandbox.computerUse

function png(answer, width, height) {
  const data = Buffer.from(answer.screenshot, 'base64')
  assert.equal(data.subarray(1, 4).toString(), 'PNG')
  assert.deepEqual([data.readUInt32BE(16), data.readUInt32BE(20)], [width, height])
  fields(answer, data, width, height)
}

function fields(answer, data, width, height) {
  assert.equal(answer.sizeBytes, data.length)
  assert.deepEqual([answer.width, answer.height], [width, height])
  assert.ok(Number.isInteger(answer.cursorPosition.x) && Number.isInteger(answer.cursorPosition.y))
}

try {
  await main({
    async withoutADesktop() {
      await rejects(screenshot.takeFullScreen(), DaytonaError, { statusCode: 503 })
      await sandbox.computerUse.start()
    },
    async fullScreen() {
      png(await screenshot.takeFullScreen(), 1024, 768)
      png(await screenshot.takeFullScreen(true), 1024, 768)
    },
    async compressed() {
      png(await screenshot.takeCompressed(), 1024, 768)
      png(await screenshot.takeCompressed({ format: 'png', scale: 0.5, showCursor: true }), 512, 384)
      const magic = { jpeg: 'ffd8ff', webp: '52494646' }
      for (const [format, start] of Object.entries(magic)) {
        const answer = await screenshot.takeCompressed({ format, quality: 80, scale: 0.5 })
        const data = Buffer.from(answer.screenshot, 'base64')
        assert.ok(data.toString('hex').startsWith(start))
        fields(answer, data, 512, 384)
      }
    },
    async compressedRegion() {
      png(await screenshot.takeCompressedRegion(region), 301, 199)
      png(await screenshot.takeCompressedRegion(region, { format: 'png', scale: 0.5 }), 150, 99)
    },
    async whatGoesWrong() {
      for (const options of [{ format: 'gif' }, { quality: 101 }, { scale: 2 }]) {
        await rejects(screenshot.takeCompressed(options), DaytonaError, { statusCode: 400 })
      }
    },
  })
} finally {
  await daytona.delete(sandbox)
}
