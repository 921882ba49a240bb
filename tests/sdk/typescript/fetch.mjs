// The paths that the SDK takes outside Node: uploads by `fetch`, and, in a serverless runtime, downloads read as a whole.
// RUNTIME is `deno` (the global is faked here, before the SDK is loaded) or `serverless` (the environment says so).
import assert from 'node:assert/strict'
import { collect, main, pattern, rejects } from './common.mjs'

const deno = process.env.RUNTIME === 'deno'
if (deno) globalThis.Deno = { env: { get: (name) => process.env[name] } }
const { Daytona, DaytonaError, DaytonaFileNotFoundError } = await import('@daytonaio/sdk')

const BIG = pattern(3_000_000)
const NAMES = ['plain.txt', 'with space', 'percent%41', "it's", 'a;b', 'plus+&=', 'naïve 日本語.txt']
// Node's own form reader, which the serverless path uses, stumbles over the escapes in `filename="..."`.
const QUOTED = ['double "quoted"', 'back\\slash']

const calls = []
const { fetch } = globalThis
globalThis.fetch = (url, ...rest) => {
  calls.push(String(url))
  return fetch(url, ...rest)
}

const daytona = new Daytona()
const sandbox = await daytona.create()
const { fs } = sandbox

await main({
  async upload_by_fetch() {
    await fs.uploadFile(Buffer.from(BIG), 'big')
    assert.ok(calls.some((url) => url.endsWith('/files/bulk-upload')), 'the SDK did not use fetch')
    assert.ok(BIG.equals(Buffer.from(await fs.downloadFile('big'))))
  },

  async names() {
    for (const name of deno ? [...NAMES, ...QUOTED] : NAMES) {
      await fs.uploadFiles([{ source: Buffer.from(name), destination: `names/${name}` }])
      const [answer] = await fs.downloadFiles([{ source: `names/${name}` }])
      assert.equal(answer.error, undefined, name)
      assert.equal(Buffer.from(answer.result).toString(), name)
    }
  },

  async partial_errors() {
    const [good, missing] = await fs.downloadFiles([{ source: 'big' }, { source: 'missing' }])
    assert.ok(BIG.equals(Buffer.from(good.result)))
    assert.equal(missing.errorDetails.code, 'FILE_NOT_FOUND')
    await rejects(fs.downloadFile('missing'), DaytonaFileNotFoundError, { statusCode: 404 })
  },

  async streams() {
    await rejects(fs.uploadFileStream(BIG, 'stream'), DaytonaError)
    if (deno) assert.ok(BIG.equals(await collect(await fs.downloadFileStream('big'))))
    else await rejects(fs.downloadFileStream('big'), DaytonaError)
  },
})
await sandbox.delete(60, true)
await daytona[Symbol.asyncDispose]()
