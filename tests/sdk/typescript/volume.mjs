// Volumes, and copies of a sandbox's files.
import assert from 'node:assert/strict'
import { Daytona, DaytonaBadRequestError, DaytonaConflictError, DaytonaNotFoundError } from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const name = `volume-ts-${process.pid}`
const root = process.getuid() === 0
const mountPath = root ? `/mnt/${name}` : '~/volume'
const boxes = []
let volume

async function create(params) {
  const box = await daytona.create(params)
  boxes.push(box)
  return box
}

const run = async (box, command) => (await box.process.executeCommand(command)).result

await main({
  async volumes() {
    volume = await daytona.volume.create(name)
    assert.equal(volume.state, 'ready')
    assert.equal((await daytona.volume.get(name)).id, volume.id)
    assert((await daytona.volume.list()).some((each) => each.id === volume.id))
    await rejects(daytona.volume.create(name), DaytonaConflictError, { statusCode: 409 })
    await rejects(daytona.volume.get('no-such-volume'), DaytonaNotFoundError, { statusCode: 404 })
    await daytona.volume.delete(await daytona.volume.get(`${name}-new`, true))
  },

  async shared() {
    const one = await create({ volumes: [{ volumeId: volume.id, mountPath }] })
    const two = await create({ volumes: [{ volumeId: name, mountPath, subpath: 'a/b' }] })
    await run(two, `echo seen > ${mountPath}/file`)
    assert.equal(await run(one, `cat ${mountPath}/a/b/file`), 'seen\n')
    await rejects(daytona.volume.delete(volume), DaytonaBadRequestError, { statusCode: 400 })
  },

  async copies() {
    const box = await create({})
    await run(box, 'echo kept > file')
    await box._experimental_createSnapshot(`${name}-shot`)
    assert.equal(await run(await create({ snapshot: `${name}-shot` }), 'cat file'), 'kept\n')
    const fork = await box._experimental_fork({ name: `${name}-fork` })
    boxes.push(fork)
    assert.equal(await run(fork, 'cat file'), 'kept\n')
  },

  async archive() {
    const box = boxes.at(-1)
    await box.stop()
    await box.archive()
    await box.start()
    assert.equal(await run(box, 'cat file'), 'kept\n')
    await rejects(box.resize({ cpu: 100000 }), DaytonaBadRequestError, { statusCode: 400 })
  },

  async end() {
    for (const box of boxes) await box.delete()
    await daytona.volume.delete(volume)
  },
})
