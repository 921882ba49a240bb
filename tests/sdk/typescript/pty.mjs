// The terminals of the SDK.
import assert from 'node:assert/strict'
import { Daytona, DaytonaBadRequestError, DaytonaConflictError, DaytonaError, DaytonaNotFoundError } from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create()

/** Open a terminal, or connect to one; `text()` is what came so far. */
async function open(id, { connect = false, ...options } = {}) {
  const chunks = []
  const onData = (data) => void chunks.push(Buffer.from(data))
  const handle = connect
    ? await sandbox.process.connectPty(id, { onData })
    : await sandbox.process.createPty({ id, onData, ...options })
  await handle.waitForConnection()
  return { handle, text: () => Buffer.concat(chunks).toString() }
}

try {
  await main({
    async fromStartToEnd() {
      const { handle, text } = await open('one', { cols: 111, rows: 33, cwd: '/tmp', envs: { GREETING: 'hällo' } })
      const info = await sandbox.process.getPtySessionInfo('one')
      assert.deepEqual([info.id, info.cwd, info.cols, info.rows, info.active], ['one', '/tmp', 111, 33, true])
      assert.deepEqual((await sandbox.process.listPtySessions()).map(({ id }) => id), ['one'])
      const resized = await handle.resize(70, 20)
      assert.deepEqual([resized.cols, resized.rows], [70, 20])
      await handle.sendInput('echo "<$GREETING $PWD $(stty size)>"\n')
      await handle.sendInput(Buffer.from('seq 1 20000; exit 7\n'))
      const { exitCode, error } = await handle.wait()
      assert.deepEqual([exitCode, error], [7, 'non-zero exit'])
      assert.ok(text().includes('<hällo /tmp 20 70>'))
      const numbers = Array.from({ length: 20000 }, (_, index) => `${index + 1}\r\n`).join('')
      assert.ok(text().includes(numbers))
      await rejects(sandbox.process.getPtySessionInfo('one'), DaytonaNotFoundError, { statusCode: 404 })
    },
    async leavingAndComingBack() {
      const first = await open('two')
      await first.handle.sendInput("echo bef''ore\n")
      await first.handle.disconnect()
      const again = await open('two', { connect: true })
      await again.handle.sendInput("echo aft''er; exit\n")
      assert.equal((await again.handle.wait()).exitCode, 0)
      assert.match(again.text(), /before\r\n[^]*after\r\n/)
    },
    async killing() {
      const { handle } = await open('three')
      await handle.kill()
      const { exitCode, error } = await handle.wait()
      assert.deepEqual([exitCode, error], [137, 'SIGKILL'])
    },
    async whatGoesWrong() {
      const { handle } = await open('four')
      await assert.rejects(open('four'), DaytonaError)
      await assert.rejects(open('a/b'), DaytonaError)
      await assert.rejects(open('nope', { connect: true }), /PTY session nope not found/)
      await assert.rejects(sandbox.process.resizePtySession('four', 0, 100000), DaytonaBadRequestError)
      await handle.sendInput('exit\n')
      assert.equal((await handle.wait()).exitCode, 0)
      assert.equal(typeof DaytonaConflictError, 'function')
    },
  })
} finally {
  await daytona.delete(sandbox)
}
