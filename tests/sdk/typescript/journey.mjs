// Two sandboxes: made, used, changed, deleted.
import assert from 'node:assert/strict'
import {
  Daytona,
  DaytonaAuthenticationError,
  DaytonaBadRequestError,
  DaytonaConflictError,
  DaytonaFileNotFoundError,
  DaytonaNotFoundError,
  DaytonaTimeoutError,
} from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const label = { suite: `journey-${process.pid}` }
let first
let second

async function all(query) {
  const found = []
  for await (const sandbox of daytona.list(query)) found.push(sandbox.id)
  return found.sort()
}

await main({
  async create() {
    first = await daytona.create({
      name: `journey-${process.pid}`,
      envVars: { GREETING: 'hello' },
      labels: { ...label }, // the SDK writes into it
      language: 'typescript',
      autoStopInterval: 0,
      autoDeleteInterval: 60,
    })
    second = await daytona.create({ labels: { ...label }, ephemeral: true })
    assert.equal(first.state, 'started')
    assert.equal(first.autoStopInterval, 0)
    assert.equal(first.autoDeleteInterval, 60)
    assert.equal(second.autoDeleteInterval, 0)
    assert.deepEqual(first.labels, { ...label, 'code-toolbox-language': 'typescript' })
    await rejects(daytona.create({ name: first.name }), DaytonaConflictError, { statusCode: 409 })
    await rejects(daytona.create({ image: 'debian:12' }), DaytonaBadRequestError, { statusCode: 400 })
  },

  async find() {
    assert.equal((await daytona.get(first.name)).id, first.id)
    assert.equal((await daytona.get(second.id)).name, second.name)
    assert.deepEqual(await all({ labels: label }), [first.id, second.id].sort())
    assert.deepEqual(await all({ labels: label, limit: 1 }), [first.id, second.id].sort())
    assert.deepEqual(await all({ labels: { suite: 'none' } }), [])
    await rejects(daytona.get('no-such-sandbox'), DaytonaNotFoundError, { statusCode: 404 })
    await rejects(new Daytona({ apiKey: 'wrong' }).get(first.id), DaytonaAuthenticationError, { statusCode: 401 })
  },

  async execute() {
    const run = (...args) => first.process.executeCommand(...args)
    assert.deepEqual(await run('echo $GREETING'), { exitCode: 0, result: 'hello\n', artifacts: { stdout: 'hello\n' } })
    assert.equal((await run('exit 3')).exitCode, 3)
    assert.equal((await run('pwd', '/tmp')).result, '/tmp\n')
    assert.equal((await run('echo "$A"', undefined, { A: "it's ü" })).result, "it's ü\n")
    assert.equal((await run('pwd', '/no/such')).exitCode, -1)
    await rejects(run('sleep 60', undefined, undefined, 1), DaytonaTimeoutError, { statusCode: 408 })
    await rejects(run(' '), DaytonaBadRequestError, { statusCode: 400 })
    await rejects(run('true', undefined, { '1A': '' }), DaytonaBadRequestError, { statusCode: 400 })
    assert.equal((await second.process.executeCommand('echo $GREETING')).result, '\n')
  },

  async directories() {
    assert.equal(await first.getWorkDir(), await first.getUserHomeDir())
    assert.notEqual(await first.getWorkDir(), await second.getWorkDir())
    const metrics = await first.getMetricsLatest()
    assert.ok(metrics.cpuCount > 0 && metrics.memTotal > metrics.memUsed && metrics.diskTotal > 0)
    assert.ok(metrics.timestamp instanceof Date)
  },

  async change() {
    assert.deepEqual(await first.setLabels({ ...label, more: 'yes' }), { ...label, more: 'yes' })
    await first.setAutostopInterval(5)
    await first.setAutoArchiveInterval(10)
    await first.setAutoDeleteInterval(-1)
    await first.refreshActivity()
    await first.updateEnv({ LATER: 'set' }, { unset: ['GREETING'] })
    assert.equal((await first.process.executeCommand('echo $LATER,$GREETING')).result, 'set,\n')
    await first.refreshData()
    assert.deepEqual([first.autoStopInterval, first.autoArchiveInterval, first.autoDeleteInterval], [5, 10, -1])
  },

  async stop_and_start() {
    await first.fs.uploadFile(Buffer.from('kept'), 'kept')
    await first.stop()
    assert.equal(first.state, 'stopped')
    await rejects(first.process.executeCommand('true'), DaytonaConflictError, { statusCode: 409 })
    await first.start()
    assert.equal(first.state, 'started')
    assert.equal((await first.fs.downloadFile('kept')).toString(), 'kept')
    await rejects(second.fs.downloadFile('kept'), DaytonaFileNotFoundError, { statusCode: 404 })
  },

  async delete() {
    await daytona.delete(first, 60, true)
    await second.delete()
    await rejects(daytona.get(first.id), DaytonaNotFoundError)
    assert.deepEqual(await all({ labels: label }), [])
  },
})
await daytona[Symbol.asyncDispose]()
