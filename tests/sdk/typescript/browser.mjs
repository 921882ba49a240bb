// The SDK in a web page of another origin than the server: bundled by esbuild, run and judged by tests/controlplane/test_browser.py.
import { Daytona, DaytonaFileNotFoundError } from '@daytonaio/sdk'

const text = (bytes) => new TextDecoder().decode(bytes)

/** Do what a page may want to; return what came of it, by name. */
globalThis.journey = async (apiUrl, apiKey) => {
  const daytona = new Daytona({ apiUrl, apiKey, target: 'local' })
  const sandbox = await daytona.create({ language: 'python', labels: { from: 'page' } })
  const seen = { headers: (await fetch(`${apiUrl}/config`)).headers.has('X-Request-Id') }
  for (const [name, step] of Object.entries(steps)) {
    seen[name] = await step(sandbox).catch((error) => `${error.name}: ${error.message}`)
  }
  await sandbox.delete(60, true)
  seen.left = (await Array.fromAsync(daytona.list({ labels: { from: 'page' } }))).length
  return seen
}

const steps = {
  async execute({ process }) {
    const { exitCode, result } = await process.executeCommand('echo "$GREETING"; exit 3', undefined, { GREETING: 'hé' })
    return [exitCode, result]
  },

  async codeRun({ process }) {
    return (await process.codeRun('print(6 * 7)')).result
  },

  async files({ fs }) {
    const bytes = crypto.getRandomValues(new Uint8Array(60_000))
    await fs.uploadFile(bytes, 'dir/bytes')
    await fs.uploadFiles([{ source: new TextEncoder().encode('naïve'), destination: 'dir/日本 語.txt' }])
    const back = await fs.downloadFile('dir/bytes')
    const [named, missing] = await fs.downloadFiles([{ source: 'dir/日本 語.txt' }, { source: 'dir/none' }])
    return [
      back.length === bytes.length && back.every((byte, at) => byte === bytes[at]),
      text(named.result),
      missing.errorDetails.code,
      (await fs.listFiles('dir')).map(({ name }) => name).sort(),
    ]
  },

  async errors({ fs }) {
    const error = await fs.downloadFile('none').catch((thrown) => thrown)
    return [error instanceof DaytonaFileNotFoundError, error.statusCode, error.code]
  },

  async session({ process }) {
    await process.createSession('s')
    const { cmdId } = await process.executeSessionCommand('s', {
      command: 'for n in 1 2 3; do echo $n; done; echo err >&2; read x; echo "got $x"',
      runAsync: true,
      suppressInputEcho: true,
    })
    const [out, err] = [[], []]
    let answered
    await process.getSessionCommandLogs(
      's',
      cmdId,
      (chunk) => {
        out.push(chunk)
        if (out.join('').includes('3\n')) answered ??= process.sendSessionCommandInput('s', cmdId, 'input')
      },
      (chunk) => void err.push(chunk),
    )
    const { exitCode } = await process.getSessionCommand('s', cmdId)
    return [out.join(''), err.join(''), exitCode]
  },

  async pty({ process }) {
    const chunks = []
    const handle = await process.createPty({ id: 'p', cols: 70, rows: 20, onData: (data) => void chunks.push(text(data)) })
    await handle.waitForConnection()
    await handle.sendInput('stty size; exit 7\n')
    const { exitCode } = await handle.wait()
    return [exitCode, chunks.join('').includes('\n20 70\r\n')]
  },

  async interpreter({ codeInterpreter }) {
    const said = []
    await codeInterpreter.runCode('x = 41')
    const { stdout, error } = await codeInterpreter.runCode('print(x + 1)\n1 / 0', {
      onStdout: ({ output }) => void said.push(output),
    })
    return [stdout, said, error.name]
  },
}
