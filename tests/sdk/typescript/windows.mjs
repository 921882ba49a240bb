// Displays and windows of the SDK, on the desktop as it comes.
import assert from 'node:assert/strict'
import { Daytona, DaytonaError } from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create()
const { computerUse, process: shell } = sandbox

try {
  await main({
    async notStarted() {
      await rejects(computerUse.display.getInfo(), DaytonaError, { statusCode: 503 })
      await rejects(computerUse.display.getWindows(), DaytonaError, { statusCode: 503 })
    },
    async start() {
      await computerUse.start()
    },
    async info() {
      const info = await computerUse.display.getInfo()
      const { id, x, y, width, height, isActive } = info.displays[0]
      assert.deepEqual([id, x, y, width, height, isActive], [0, 0, 0, 1024, 768, true])
      // As the SDK's documentation has it.
      assert.deepEqual([info.primary_display.width, info.total_displays], [1024, 1])
    },
    async windows() {
      const title = 'Grüße 日本語'
      const options = JSON.stringify([{ title, x: 200, y: 150, width: 300, height: 200 }])
      await shell.createSession('windows')
      const command = `${process.env.WINDOW_PROGRAM} '${options}'`
      await shell.executeSessionCommand('windows', { command, runAsync: true })
      let found
      while (!found) {
        const { windows, count } = await computerUse.display.getWindows()
        assert.equal(count, windows.length)
        found = windows.find((window) => window.title === title)
      }
      assert.deepEqual([found.width, found.height], [300, 200])
      assert.ok(found.x >= 200 && found.y >= 150 && found.id > 0)
      assert.equal(typeof found.isActive, 'boolean')
      await shell.deleteSession('windows')
    },
  })
} finally {
  await sandbox.delete()
}
