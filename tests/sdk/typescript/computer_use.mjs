// Computer use through the SDK.
import assert from 'node:assert/strict'
import { Daytona } from '@daytonaio/sdk'
import { main } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create()
const { computerUse } = sandbox

try {
  await main({
    async start() {
      assert.equal((await computerUse.getStatus()).status, 'inactive')
      const { message, status } = await computerUse.start()
      assert.equal(message, 'Computer use processes started successfully')
      assert.deepEqual(Object.keys(status).sort(), ['atspi', 'novnc', 'x11vnc', 'xfce4', 'xvfb'])
      for (const { running, pid, priority, autoRestart } of Object.values(status)) {
        assert.deepEqual([running, autoRestart], [true, true])
        assert.ok(Number.isInteger(pid) && Number.isInteger(priority))
      }
      assert.equal((await computerUse.getStatus()).status, 'active')
    },
    async restart() {
      const answer = await computerUse.restartProcess('novnc')
      assert.deepEqual(answer, { message: 'Process novnc restarted successfully', processName: 'novnc' })
      assert.equal((await computerUse.getProcessStatus('novnc')).running, true)
    },
    async logs() {
      assert.deepEqual(await computerUse.getProcessLogs('novnc'), { processName: 'novnc', logs: '' })
      assert.match((await computerUse.getProcessErrors('novnc')).errors, /WebSocket server settings/)
    },
    async stop() {
      const { message, status } = await computerUse.stop()
      assert.equal(message, 'Computer use processes stopped successfully')
      assert.ok(Object.values(status).every(({ running, pid }) => running === false && pid === null))
      assert.equal((await computerUse.getStatus()).status, 'inactive')
    },
  })
} finally {
  await sandbox.delete()
}
