// The whole `fs` of the SDK.
import assert from 'node:assert/strict'
import { createReadStream } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  Daytona,
  DaytonaBadRequestError,
  DaytonaConflictError,
  DaytonaError,
  DaytonaFileNotFoundError,
  DaytonaInvalidFilePathError,
} from '@daytonaio/sdk'
import { collect, main, pattern, rejects } from './common.mjs'

const BIG = Buffer.concat([pattern(8_000_000), Buffer.from('\r\n--')])
const NAMES = [
  'naïve café.txt',
  '日本語 😀.txt',
  'with  two spaces',
  'double "quoted".txt',
  "it's",
  'percent%41%.txt',
  '%2e%2e%2f',
  'plus+and&equals=',
  'semi;colon, comma',
  'back\\slash',
  '-dash',
  '#hash?question',
  '*.[a-z]',
  '~',
  'n'.repeat(255),
  'é'.repeat(127),
]
// form-data, which the SDK writes its forms with, puts the name into a header line as it is.
const CONTROL = ['tab\tinside', 'new\nline']
const MISSING = { statusCode: 404, code: 'FILE_NOT_FOUND', source: 'DAYTONA_DAEMON' }
const INVALID = { statusCode: 400, code: 'INVALID_FILE_PATH', source: 'DAYTONA_DAEMON' }

const daytona = new Daytona()
const sandbox = await daytona.create()
const { fs } = sandbox
const local = await mkdtemp(join(tmpdir(), 'sdk-'))
const run = async (command) => (await sandbox.process.executeCommand(command)).result.trim()
const names = async (path, depth) => (await fs.listFiles(path, { depth })).map((each) => each.name)

await main({
  async surface() {
    const known =
      'createFolder deleteFile downloadFile downloadFileStream downloadFiles findFiles getFileDetails listFiles ' +
      'moveFiles replaceInFiles searchFiles setFilePermissions uploadFile uploadFileStream uploadFiles'
    const found = Object.getOwnPropertyNames(Object.getPrototypeOf(fs)).filter((name) => name !== 'constructor')
    assert.deepEqual(found.filter((name) => name !== 'makeFilePayload').sort(), known.split(' '))
  },

  async upload_and_download() {
    for (const content of [Buffer.from('\0'), Buffer.from('text\n'), Buffer.from('\r\n--x--\r\n'), BIG]) {
      await fs.uploadFile(content, 'round/trip')
      assert.ok(content.equals(await fs.downloadFile('round/trip')))
    }
    await fs.uploadFile(Buffer.alloc(0), 'round/empty')
    assert.equal((await fs.getFileDetails('round/empty')).size, 0)
    assert.equal((await fs.downloadFile('round/empty')).length, 0)
  },

  async local_files() {
    await writeFile(join(local, 'source'), BIG)
    await fs.uploadFile(join(local, 'source'), 'local/there')
    await fs.downloadFile('local/there', join(local, 'new/back'))
    assert.ok(BIG.equals(await readFile(join(local, 'new/back'))))
  },

  async many_files() {
    const files = Array.from({ length: 100 }, (_, at) => ({
      source: Buffer.from(`content ${at}`),
      destination: `many/${at}`,
    }))
    await fs.uploadFiles([...files, { source: join(local, 'source'), destination: 'many/local' }])
    const answers = await fs.downloadFiles(files.map((each) => ({ source: each.destination })))
    answers.forEach((answer, at) => {
      assert.equal(answer.source, `many/${at}`)
      assert.equal(answer.result.toString(), `content ${at}`)
      assert.equal(answer.error, undefined)
    })
    assert.deepEqual(await fs.downloadFiles([]), [])
  },

  async partial_errors() {
    await fs.uploadFile(Buffer.from('good'), 'part/good')
    const [good, missing, directory] = await fs.downloadFiles([
      { source: 'part/good' },
      { source: 'part/missing', destination: join(local, 'never') },
      { source: 'part' },
    ])
    assert.equal(good.result.toString(), 'good')
    assert.match(missing.error, /part\/missing/)
    for (const [answer, wanted] of [[missing, MISSING], [directory, INVALID]]) {
      assert.equal(answer.result, undefined)
      for (const [name, value] of Object.entries(wanted)) assert.equal(answer.errorDetails[name], value)
    }
    await fs.createFolder('part/directory', '755')
    const failing = fs.uploadFiles([
      { source: Buffer.from('one'), destination: 'part/one' },
      { source: Buffer.from('lost'), destination: 'part/directory' },
      { source: Buffer.from('two'), destination: 'part/two' },
    ])
    await rejects(failing, DaytonaInvalidFilePathError, INVALID)
    assert.deepEqual(await names('part'), ['directory', 'good', 'one', 'two'])
  },

  async upload_stream() {
    const sources = { buffer: () => BIG, path: () => join(local, 'source'), stream: () => createReadStream(join(local, 'source')) }
    sources.web = () => new Blob([BIG]).stream()
    for (const [name, source] of Object.entries(sources)) {
      const sent = []
      await fs.uploadFileStream(source(), `stream/${name}`, { onProgress: ({ bytesSent }) => sent.push(bytesSent) })
      assert.equal(sent.at(-1), BIG.length)
      assert.deepEqual(sent, [...sent].sort((a, b) => a - b))
      assert.ok(BIG.equals(await fs.downloadFile(`stream/${name}`)), name)
    }
  },

  async cancelled_upload() {
    await fs.uploadFile(Buffer.from('old'), 'cancel/file')
    const controller = new AbortController()
    const onProgress = ({ bytesSent }) => bytesSent > 2_000_000 && controller.abort()
    const upload = fs.uploadFileStream(createReadStream(join(local, 'source')), 'cancel/file', {
      onProgress,
      signal: controller.signal,
    })
    await rejects(upload, DaytonaError)
    await rejects(fs.uploadFileStream(BIG, 'cancel/file', { signal: controller.signal }), DaytonaError)
    assert.equal((await fs.downloadFile('cancel/file')).toString(), 'old')
  },

  async download_stream() {
    await fs.uploadFile(BIG, 'stream/file')
    assert.ok(BIG.equals(await collect(await fs.downloadFileStream('stream/file'))))
    const seen = []
    const stream = await fs.downloadFileStream('stream/file', { onProgress: (progress) => seen.push(progress) })
    assert.ok(BIG.equals(await collect(stream)))
    assert.ok(seen.length > 10)
    assert.ok(seen.every((each) => each.totalBytes === BIG.length))
    assert.equal(seen.at(-1).bytesReceived, BIG.length)
    await rejects(fs.downloadFileStream('stream/missing'), DaytonaFileNotFoundError, MISSING)
    await rejects(fs.downloadFileStream('stream'), DaytonaInvalidFilePathError, INVALID)
  },

  async cancelled_download() {
    const controller = new AbortController()
    const stream = await fs.downloadFileStream('stream/file', { signal: controller.signal })
    const reading = (async () => {
      for await (const _ of stream) controller.abort()
    })()
    await rejects(reading, DaytonaError)
    assert.equal((await fs.downloadFile('stream/file')).length, BIG.length)
  },

  async folders_and_details() {
    await fs.createFolder('info/a/b', '700')
    await fs.uploadFile(Buffer.from('12345'), 'info/file.txt')
    await run("cd info && chmod 640 file.txt && touch -d '2026-01-02 03:04:05.006 UTC' file.txt")
    const [owner, group] = (await run("stat -c '%u %g' info/file.txt")).split(' ')
    assert.deepEqual(await fs.getFileDetails('info/file.txt'), {
      name: 'file.txt',
      size: 5,
      mode: '-rw-r-----',
      modTime: '2026-01-02 03:04:05.006 +0000 UTC',
      modifiedAt: '2026-01-02T03:04:05.006Z',
      isDir: false,
      owner,
      group,
      permissions: '0640',
      path: `${await sandbox.getWorkDir()}/info/file.txt`,
    })
    assert.deepEqual(await names('info'), ['a', 'file.txt'])
    assert.deepEqual(await names('info', 2), ['a', 'b', 'file.txt'])
    const [folder] = await fs.listFiles('info/a')
    assert.deepEqual([folder.mode, folder.permissions, folder.isDir], ['drwx------', '0700', true])
    assert.deepEqual(await fs.listFiles('info/a/b'), [])
    await rejects(fs.listFiles('info', { depth: 0 }), DaytonaError)
    await rejects(fs.listFiles('info/file.txt'), DaytonaBadRequestError)
    await rejects(fs.createFolder('info/bad', 'rwx'), DaytonaBadRequestError)
  },

  async permissions() {
    await fs.uploadFile(Buffer.from('x'), 'permissions')
    await fs.setFilePermissions('permissions', { mode: '4711' })
    assert.equal(await run('stat -c %a permissions'), '4711')
    const [user, group] = (await run("stat -c '%U %g' permissions")).split(' ')
    await fs.setFilePermissions('permissions', { mode: '600', owner: user, group })
    assert.equal((await fs.getFileDetails('permissions')).permissions, '0600')
    await rejects(fs.setFilePermissions('permissions', { owner: 'no such user' }), DaytonaBadRequestError)
  },

  async move_and_delete() {
    await fs.uploadFile(Buffer.from('content'), 'move/from/file')
    await fs.uploadFile(Buffer.from('other'), 'move/other')
    await fs.moveFiles('move/from', 'move/to')
    await fs.moveFiles('move/to/file', 'move/file')
    assert.equal((await fs.downloadFile('move/file')).toString(), 'content')
    await rejects(fs.moveFiles('move/other', 'move/file'), DaytonaConflictError, { statusCode: 409 })
    await rejects(fs.moveFiles('move', 'move/inside'), DaytonaError)
    await rejects(fs.deleteFile('move'), DaytonaBadRequestError)
    await fs.deleteFile('move/file')
    assert.deepEqual(await names('move', 9), ['other', 'to'])
    await fs.deleteFile('move', true)
  },

  async missing() {
    for (const [method, ...args] of [
      ['getFileDetails', 'missing'],
      ['listFiles', 'missing'],
      ['downloadFile', 'missing'],
      ['deleteFile', 'missing'],
      ['moveFiles', 'missing', 'other'],
      ['setFilePermissions', 'missing', { mode: '644' }],
    ]) {
      await rejects(fs[method](...args), DaytonaFileNotFoundError, MISSING)
    }
  },

  async unusual_names() {
    for (const name of NAMES) {
      const path = `names/${name}`
      await fs.createFolder(path, '755')
      await fs.uploadFiles([
        { source: Buffer.from('inside'), destination: `${path}/${name}` },
        { source: Buffer.from('plain'), destination: `${path}/plain file` },
      ])
      assert.deepEqual((await names(path)).sort(), [name, 'plain file'].sort())
      const info = await fs.getFileDetails(`${path}/${name}`)
      for (const source of [`${path}/${name}`, info.path]) {
        const answers = await fs.downloadFiles([{ source }, { source: `${path}/plain file` }])
        assert.deepEqual(answers.map((each) => each.result?.toString()), ['inside', 'plain'], name)
      }
      await fs.uploadFileStream(Buffer.from('streamed'), info.path)
      assert.equal((await collect(await fs.downloadFileStream(info.path))).toString(), 'streamed')
      await fs.moveFiles(info.path, 'names/moved')
      assert.equal((await fs.downloadFile('names/moved')).toString(), 'streamed')
      await fs.deleteFile('names', true)
    }
  },

  async control_characters() {
    for (const name of CONTROL) {
      await fs.uploadFile(Buffer.from('x'), 'control/plain')
      await fs.moveFiles('control/plain', `control/${name}`)
      assert.deepEqual(await names('control'), [name])
      assert.equal((await fs.downloadFile(`control/${name}`)).toString(), 'x')
      await fs.deleteFile('control', true)
    }
  },

  async search() {
    await fs.uploadFiles([
      { source: Buffer.from('import os\nTODO: one\r\nlast TODO'), destination: 'search/a.py' },
      { source: Buffer.from('café TODO\n'), destination: 'search/sub/b.py' },
      { source: Buffer.from('todo (x.*y)\n'), destination: 'search/sub/c.txt' },
    ])
    assert.deepEqual((await fs.searchFiles('search', '*.py')).files, ['search/a.py', 'search/sub/b.py'])
    assert.deepEqual((await fs.searchFiles('search', 'nothing')).files, [])
    assert.deepEqual(await fs.findFiles('search', 'TODO'), [
      { file: 'search/a.py', line: 2, content: 'TODO: one' },
      { file: 'search/a.py', line: 3, content: 'last TODO' },
      { file: 'search/sub/b.py', line: 1, content: 'café TODO' },
    ])
    assert.equal((await fs.findFiles('search', '(x.*y)')).length, 1)
  },

  async replace() {
    const results = await fs.replaceInFiles(['search/a.py', 'search/missing'], 'TODO', 'done')
    assert.deepEqual(results.map(({ file, success }) => [file, success]), [['search/a.py', true], ['search/missing', false]])
    assert.ok(results[1].error)
    assert.equal((await fs.downloadFile('search/a.py')).toString(), 'import os\ndone: one\r\nlast done')
  },
})
await sandbox.delete(60, true)
await daytona[Symbol.asyncDispose]()
await rm(local, { recursive: true })
