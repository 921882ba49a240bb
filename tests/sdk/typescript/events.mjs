// Events end waits; metrics; an object follows what others do.
import assert from 'node:assert/strict'
import { Daytona } from '@daytonaio/sdk'
import { main } from './common.mjs'

const daytona = new Daytona()
let sandbox

async function until(condition) {
  const deadline = Date.now() + 60_000
  while (!condition()) {
    assert.ok(Date.now() < deadline, 'it never happened')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

await main({
  async create() {
    sandbox = await daytona.create({ name: `events-${process.pid}` })
    assert.equal(sandbox.state, 'started')
  },

  // The state changes by what is told: nothing here asks for it.
  async follow() {
    const other = await new Daytona().get(sandbox.id)
    await until(() => daytona.eventDispatcher.isConnected)
    await other.stop()
    await until(() => sandbox.state === 'stopped')
    await other.start()
    await until(() => sandbox.state === 'started')
  },

  async stop() {
    await sandbox.stop()
    assert.equal(sandbox.state, 'stopped')
    await sandbox.start()
  },

  async remove() {
    await sandbox.delete()
  },
})
process.exit()
