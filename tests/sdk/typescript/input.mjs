// Mouse and keyboard of the SDK.
import assert from 'node:assert/strict'
import { Daytona, DaytonaError } from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create()
const { mouse, keyboard } = sandbox.computerUse

try {
  await main({
    async start() {
      await sandbox.computerUse.start()
    },
    async mouse() {
      assert.deepEqual(await mouse.move(100, 200), { x: 100, y: 200 })
      assert.deepEqual(await mouse.getPosition(), { x: 100, y: 200 })
      assert.deepEqual(await mouse.click(50, 60), { x: 50, y: 60 })
      assert.deepEqual(await mouse.click(50, 60, 'right', true), { x: 50, y: 60 })
      assert.deepEqual(await mouse.drag(10, 10, 60, 70), { x: 60, y: 70 })
      for (const direction of ['up', 'down']) assert.equal(await mouse.scroll(5, 6, direction, 3), true)
    },
    async keyboard() {
      await keyboard.type('Hello, World! äöü 日本語 😀\n')
      await keyboard.type('slow', 1)
      for (const key of ['enter', 'Return', 'num_plus', 'f13']) await keyboard.press(key)
      await keyboard.press('c', ['ctrl', 'shift'])
      await keyboard.hotkey('ctrl+c')
    },
    async errors() {
      await rejects(mouse.click(1, 1, 'center'), DaytonaError, { statusCode: 400 })
      await rejects(keyboard.type('a\tb'), DaytonaError, { statusCode: 400 })
      await rejects(keyboard.press('enterr'), DaytonaError, { statusCode: 400 })
      await rejects(keyboard.hotkey('ctrl+a+b'), DaytonaError, { statusCode: 400 })
    },
  })
} finally {
  await sandbox.delete()
}
