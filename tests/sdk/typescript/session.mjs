// The sessions of the SDK.
import assert from 'node:assert/strict'
import { Daytona, DaytonaConflictError, DaytonaError, DaytonaNotFoundError } from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create()
const { process: shell } = sandbox

async function session(id) {
  await shell.createSession(id)
  return (command, more = {}) => shell.executeSessionCommand(id, { command, ...more })
}

try {
  await main({
    async whatLasts() {
      const run = await session('one')
      await run('cd /tmp; export A=1')
      const answer = await run('pwd; echo $A; echo err >&2; (exit 5)')
      assert.deepEqual([answer.exitCode, answer.stdout, answer.stderr], [5, '/tmp\n1\n', 'err\n'])
      const logs = await shell.getSessionCommandLogs('one', answer.cmdId)
      assert.deepEqual([logs.stdout, logs.stderr], ['/tmp\n1\n', 'err\n'])
      assert.equal((await shell.getSessionCommand('one', answer.cmdId)).exitCode, 5)
      assert.ok((await shell.listSessions()).some(({ sessionId }) => sessionId === 'one'))
      await shell.deleteSession('one')
      await rejects(shell.getSession('one'), DaytonaNotFoundError, { statusCode: 404 })
    },
    async following() {
      const run = await session('two')
      const { cmdId } = await run(
        "for n in 1 2 3; do echo $n; sleep 0.05; done; printf 'a\\1\\1\\1b\\2\\2\\2c'; seq 1 20000 >&2; echo end",
        { runAsync: true },
      )
      const out = []
      const err = []
      await shell.getSessionCommandLogs('two', cmdId, (chunk) => void out.push(chunk), (chunk) => void err.push(chunk))
      assert.equal(out.join(''), '1\n2\n3\na\x01\x01\x01b\x02\x02\x02cend\n')
      assert.equal(err.join(''), Array.from({ length: 20000 }, (_, index) => `${index + 1}\n`).join(''))
    },
    async input() {
      const run = await session('three')
      const { cmdId } = await run('read a; echo got $a', { runAsync: true, suppressInputEcho: true })
      await shell.sendSessionCommandInput('three', cmdId, 'hello')
      const out = []
      await shell.getSessionCommandLogs('three', cmdId, (chunk) => void out.push(chunk), () => {})
      assert.equal(out.join(''), 'got hello\n')
      await rejects(shell.sendSessionCommandInput('three', cmdId, 'late'), DaytonaError, { statusCode: 410 })
    },
    async sshAccess() {
      const { token, sshCommand } = await sandbox.createSshAccess(10)
      assert.ok(sshCommand.endsWith(`${token}@127.0.0.1`))
      assert.equal((await sandbox.validateSshAccess(token)).valid, true)
      await sandbox.revokeSshAccess(token)
      assert.equal((await sandbox.validateSshAccess(token)).valid, false)
    },
    async typedErrors() {
      await session('four')
      await rejects(shell.createSession('four'), DaytonaConflictError, { statusCode: 409 })
      await rejects(shell.getSessionCommand('four', 'nope'), DaytonaNotFoundError)
      const run = (command) => shell.executeSessionCommand('four', { command })
      assert.equal((await run('exit 7')).exitCode, 7)
      await rejects(run('echo x'), DaytonaError, { statusCode: 410, code: 'SESSION_ENDED' })
    },
  })
} finally {
  await sandbox.delete()
}
