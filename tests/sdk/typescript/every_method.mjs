// Every public method of the SDK's clients, once at least, on any driver, in an empty directory. The argument is a file
// with what the driver differs in and what the scenarios share (`Facts` in every_method.py).
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import {
  Daytona,
  DaytonaBadRequestError,
  DaytonaError,
  DaytonaGitRepoNotFoundError,
  DaytonaNotFoundError,
  Image,
  Sandbox,
} from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'
import { Record, internal } from './recording.mjs'

const facts = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const camel = (name) => name.replace(/(_experimental_)|_([a-z])/g, (_, prefix, letter) => prefix ?? letter.toUpperCase())
const record = new Record(
  Object.fromEntries(Object.entries(facts.refusals).map(([name, refusal]) => [camel(name), refusal])),
)
const attempt = (name, call) => record.attempt(name, call)
const ObjectStorage = await internal('ObjectStorage', 'ObjectStorage')
const SnapshotService = await internal('Snapshot', 'SnapshotService')
const VolumeService = await internal('Volume', 'VolumeService')
const kinds = [Daytona, Sandbox, Image, SnapshotService, VolumeService, ObjectStorage]
const watch = (target) => record.watch(target, kinds)
const client = new Daytona()
const daytona = watch(client)
const images = watch(Image)
let box
const run = async (sandbox, command) => (await sandbox.process.executeCommand(command)).result

/** Call the API where the SDK has no method for it. */
async function call(method, path) {
  const headers = { Authorization: `Bearer ${process.env.DAYTONA_API_KEY}` }
  const answer = await fetch(process.env.DAYTONA_API_URL + path, { method, headers })
  assert.ok(answer.ok, await answer.clone().text())
  return answer.status === 204 ? undefined : answer.json()
}

/** Ask for access to object storage, which comes before all else; fails as the SDK does. */
async function pushAccess() {
  const headers = { Authorization: `Bearer ${process.env.DAYTONA_API_KEY}` }
  const answer = await fetch(`${process.env.DAYTONA_API_URL}/object-storage/push-access`, { headers })
  const said = await answer.json()
  if (!answer.ok) throw new DaytonaError(said.message, answer.status, undefined, said.code)
}

/** Open a preview as a browser does, for which all names under `.localhost` are this machine. */
function visit(url, token) {
  const { host, port, pathname, search } = new URL(url)
  const headers = token ? { host, 'x-daytona-preview-token': token } : { host }
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path: pathname + search, headers, agent: false }, (answer) => {
      answer.resume().on('end', () => resolve(answer.statusCode))
    })
    sent.on('error', reject).end()
  })
}

/** An image that every method of `Image` had a part in. */
function declared() {
  return images
    .base(facts.image)
    .runCommands(facts.pip, ['sh', '-c', 'echo list > /list'])
    .pipInstall(['one', 'two==2'], { indexUrl: 'http://index.test' })
    .pipInstallFromRequirements('requirements.txt')
    .pipInstallFromPyproject('pyproject.toml', { optionalDependencies: ['more'] })
    .addLocalFile('file', '/data/file')
    .addLocalDir('dir', '/data/dir')
    .dockerfileCommands(['COPY inner /data/copied'], 'dir')
    .env({ COLOUR: 'dark-blue' })
    .workdir('/data')
    .entrypoint(['/bin/sh', '-c'])
    .cmd(['echo $COLOUR > /started; sleep 1000'])
}

/** Let nothing be made of a snapshot for a while. */
async function switchOffAndOn(name) {
  await call('POST', `/snapshots/${(await daytona.snapshot.get(name)).id}/deactivate`)
  await rejects(daytona.create({ snapshot: name }), DaytonaBadRequestError, { statusCode: 400 })
  assert.equal((await daytona.snapshot.activate(name)).state, 'active')
}

async function forget(...names) {
  for (const name of names) {
    await daytona.snapshot.delete(name)
    await rejects(daytona.snapshot.get(name), DaytonaNotFoundError, { statusCode: 404 })
  }
}

async function seeWhatWasDeclared(built) {
  const script = 'cat /list file dir/inner copied /.requirements.txt; echo $COLOUR; pwd'
  assert.equal(await run(built, script), 'list\ncontent\ninner\ninner\nrequired\ndark-blue\n/data\n')
  assert.deepEqual((await run(built, 'cat /installed')).trim().split('\n'), [
    '-m pip install one two==2 --index-url http://index.test',
    '-m pip install -r /.requirements.txt',
    '-m pip install depended optional',
  ])
  assert.equal(await run(built, 'until [ -s /started ]; do sleep 0.05; done; cat /started'), 'dark-blue\n')
  assert.equal(await built.getWorkDir(), '/data')
  await built.delete(60, true)
}

await main({
  async create() {
    const labels = { suite: 'every' }
    box = await daytona.create({ name: 'one', envVars: { A: 'b' }, labels, language: 'python' })
    assert.equal((await daytona.get('one')).id, box.id)
    const listed = []
    for await (const each of daytona.list({ labels: { suite: 'every' } })) listed.push(each.id)
    assert.deepEqual(listed, [box.id])
    await box.refreshData()
    assert.deepEqual([box.state, box.env], ['started', { A: 'b' }])
    assert.deepEqual([await daytona.warmPool.list(), (await daytona.secret.list()).items], [[], []])
    assert.equal(typeof watch(Daytona).createAxiosInstance(1000).get, 'function')
  },

  async look_inside() {
    assert.equal(await run(box, 'echo $A'), 'b\n')
    await box.fs.uploadFile(Buffer.from('kept'), 'file')
    assert.equal((await box.fs.downloadFile('file')).toString(), 'kept')
    const home = (await run(box, 'echo ~')).trim()
    assert.deepEqual([await box.getUserHomeDir(), await box.getUserRootDir(), await box.getWorkDir()], Array(3).fill(home))
    assert.equal((await box.codeInterpreter.runCode('print(6 * 7)')).stdout, '42\n')
    assert.ok((await box.computerUse.getStatus()).status)
    await rejects(box.git.status('no-repository'), DaytonaGitRepoNotFoundError, { statusCode: 404 })
    assert.equal(typeof (await box.createLspServer('python', '.')).completions, 'function')
    assert.ok((await box.getMetricsLatest()).cpuCount > 0)
    if (await attempt('Sandbox.getMetrics', box.getMetrics())) assert.ok((await box.getMetrics()).at(-1).memTotal > 0)
  },

  async change() {
    assert.deepEqual(await box.setLabels({ suite: 'changed' }), { suite: 'changed' })
    await box.setAutostopInterval(7)
    await box.setAutoDeleteInterval(9)
    await box.setTtl(60)
    const last = box.lastActivityAt
    await box.refreshActivity()
    await box.refreshData()
    assert.deepEqual([box.autoStopInterval, box.autoDeleteInterval], [7, 9])
    assert.ok(box.autoDestroyAt && box.lastActivityAt > last)
    if (await attempt('Sandbox.setAutoArchiveInterval', box.setAutoArchiveInterval(8))) {
      await box.refreshData()
      assert.equal(box.autoArchiveInterval, 8)
    }
    if (await attempt('Sandbox.setAutoPauseInterval', box.setAutoPauseInterval(5))) {
      await box.refreshData()
      assert.deepEqual([box.autoPauseInterval, box.autoStopInterval], [5, 0])
    }
    await box.updateEnv({ A: 'changed', NEW: 'x' }, { unset: ['NEVER'] })
    assert.equal(await run(box, 'echo $A $NEW'), 'changed x\n')
  },

  async outlets() {
    const secret = await daytona.secret.create({ name: 'key', value: 'hidden' })
    if (await attempt('Sandbox.updateSecrets', box.updateSecrets({ KEY: 'key' }))) {
      assert.equal(await run(box, 'echo $KEY'), `${secret.placeholder}\n`)
      await box.updateSecrets({})
    }
    await daytona.secret.delete(secret.id)
    if (await attempt('Sandbox.updateNetworkSettings', box.updateNetworkSettings({ networkBlockAll: true }))) {
      const isolated = [(await run(box, 'ls /sys/class/net')) === 'lo\n']
      await box.updateNetworkSettings({ networkBlockAll: false })
      isolated.push((await run(box, 'ls /sys/class/net')) === 'lo\n')
      assert.deepEqual(isolated, [facts.isolation_shows, false])
    }
    const listed = box.updateNetworkSettings({ networkAllowList: '10.0.0.0/8' })
    if (await attempt('Sandbox.updateNetworkSettings(networkAllowList)', listed)) {
      await box.refreshData()
      assert.equal(box.networkAllowList, '10.0.0.0/8')
    }
  },

  async reach() {
    const port = Number((await box.codeInterpreter.runCode(facts.server)).stdout)
    const link = await box.getPreviewLink(port)
    assert.equal(await visit(link.url, link.token), 200)
    assert.equal(await visit(link.url), 401)
    const signed = await box.getSignedPreviewUrl(port, 60)
    assert.equal(await visit(signed.url), 200)
    await box.expireSignedPreviewUrl(port, signed.token)
    assert.equal(await visit(signed.url), 404)
    const form = new FormData()
    form.append('file', new Blob(['content']), 'name')
    assert.equal((await fetch(await box.uploadUrl('sent'), { method: 'POST', body: form })).status, 200)
    const down = await box.downloadUrl('sent')
    assert.equal(await (await fetch(down)).text(), 'content')
    await box.rotateSigningKey()
    assert.equal((await fetch(down)).status, 401)
    const access = await box.createSshAccess(10)
    assert.ok((await box.validateSshAccess(access.token)).valid)
    await box.revokeSshAccess(access.token)
    assert.ok(!(await box.validateSshAccess(access.token)).valid)
  },

  async volumes() {
    const { volume } = daytona
    const shared = await volume.create('shared')
    assert.equal((await volume.get('shared')).id, shared.id)
    const mount = { volumeId: shared.id, mountPath: facts.mount }
    for (const [command, result] of [['echo seen >', ''], ['cat', 'seen\n']]) {
      const having = await daytona.create({ volumes: [mount] })
      assert.equal(await run(having, `${command} ${facts.mount}/file`), result)
      await rejects(volume.delete(shared), DaytonaBadRequestError, { statusCode: 400 })
      await having.delete(60, true)
    }
    await volume.delete(shared)
    assert.deepEqual(await volume.list(), [])
  },

  async copy() {
    const { snapshot } = daytona
    if (await attempt('Sandbox.fork', box.fork({ name: 'fork' }))) {
      const fork = await daytona.get('fork')
      assert.equal(await run(fork, 'cat file'), 'kept')
      await fork.delete(60, true)
    }
    let source = box
    if (await attempt('Sandbox.createSnapshot', box.createSnapshot('mine'))) {
      const made = await snapshot.get('mine')
      const found = await snapshot.list({ sourceSandboxId: box.id })
      assert.deepEqual(found.items.map(({ id }) => id), [made.id])
      await switchOffAndOn('mine')
      source = await daytona.create({ snapshot: 'mine' })
    }
    if (await attempt('Daytona._experimental_fork', daytona._experimental_fork(source, { name: 'again' }))) {
      source = await daytona.get('again')
      assert.equal((await source.fs.downloadFile('file')).toString(), 'kept')
    }
    if (await attempt('Sandbox._experimental_createSnapshot', source._experimental_createSnapshot('yours'))) {
      await forget('mine', 'yours')
    }
    await attempt('Sandbox._experimental_fork', source._experimental_fork())
    await attempt('Daytona.fork', daytona.fork(source))
  },

  async go_through_states() {
    if (await attempt('Sandbox.pause', box.pause())) {
      assert.equal(box.state, 'paused')
      await box.start()
    }
    await daytona.stop(box)
    await box.waitUntilStopped()
    assert.equal(box.state, 'stopped')
    await daytona.start(box)
    await box.stop()
    if (await attempt('Sandbox.resize', box.resize({ cpu: 1, memory: 2 }))) {
      assert.deepEqual([box.cpu, box.memory, box.state], [1, 2, 'stopped'])
    }
    await box.waitForResizeComplete()
    if (await attempt('Sandbox.archive', box.archive())) {
      assert.ok(['archiving', 'archived'].includes(box.state))
    }
    await box.start()
    await box.waitUntilStarted()
    assert.equal((await box.fs.downloadFile('file')).toString(), 'kept')
    await rejects(box.recover(), DaytonaBadRequestError, { statusCode: 400 })
    await run(box, '(sleep 0.2; kill $PPID) > /dev/null 2>&1 &')
    const deadline = Date.now() + 60_000
    while (box.state !== 'error') {
      assert.ok(Date.now() < deadline, box.state)
      await box.refreshData()
    }
    await box.recover()
    assert.deepEqual([box.state, (await box.fs.downloadFile('file')).toString()], ['started', 'kept'])
  },

  async store_objects() {
    const processed = (image) => watch(SnapshotService).processImageContext(client.objectStorageApi, image)
    assert.deepEqual(await processed(Image.base('any')), [])
    if (!(await attempt('ObjectStorage', pushAccess()))) return
    const access = await call('GET', '/object-storage/push-access')
    const storage = watch(
      new ObjectStorage({
        endpointUrl: access.storageUrl,
        accessKeyId: access.accessKey,
        secretAccessKey: access.secret,
        sessionToken: access.sessionToken,
        bucketName: access.bucket,
        region: access.region,
      }),
    )
    writeFileSync('pushed', 'pushed')
    const push = () => storage.upload('pushed', access.organizationId, 'pushed')
    assert.equal(await push(), await push())
    const image = Image.base('any').addLocalFile('pushed', '/pushed')
    assert.equal(image.contextList.length, 1)
    assert.equal((await processed(image)).length, 1)
  },

  async build() {
    mkdirSync('dir')
    for (const [name, text] of Object.entries(facts.files)) writeFileSync(name, text.replace('{image}', facts.image))
    assert.match(images.debianSlim('3.12').dockerfile, /^FROM python:3\.12\./)
    assert.equal(declared().contextList.length, 4)
    const logs = []
    const onSnapshotCreateLogs = (each) => logs.push(each)
    const created = daytona.create({ name: 'built', image: declared() }, { timeout: 0, onSnapshotCreateLogs })
    if (await attempt('Daytona.create(image)', created)) {
      assert.ok(logs.some((each) => each.includes('/list')), logs.join('\n'))
      await seeWhatWasDeclared(await daytona.get('built'))
    }
  },

  async snapshots_of_images() {
    const { snapshot } = daytona
    const described = { name: 'described', image: images.fromDockerfile('Dockerfile') }
    const logs = []
    if (await attempt('SnapshotService.create(Image)', snapshot.create(described, { onLogs: (each) => logs.push(each) }))) {
      assert.ok(logs.some((each) => each.includes('from-dockerfile')), logs.join('\n'))
      const made = await daytona.create({ snapshot: 'described' })
      assert.equal(await run(made, 'id -un; cat /from-dockerfile'), 'nobody\ncontent\n')
    }
    if (await attempt('SnapshotService.create', snapshot.create({ name: 'named', image: facts.image }))) {
      assert.ok((await snapshot.list()).items.some(({ name }) => name === 'named'))
      await switchOffAndOn('named')
      await forget('named')
    }
  },

  async delete() {
    await daytona.delete(box, 60, true)
    for await (const each of daytona.list()) await each.delete(60, true)
    await rejects(box.refreshData(), DaytonaNotFoundError, { statusCode: 404 })
    await daytona[Symbol.asyncDispose]()
  },

  async nothing_left_out() {
    const left = record.missing(['Daytona', 'Sandbox', 'Snapshot', 'Volume', 'Image', 'ObjectStorage'])
    assert.deepEqual(left, [], 'neither answered nor refused as documented')
  },
})
