// One walk through a published TypeScript SDK of any version: `node journey.cjs PACKAGE`, run beside its node_modules.
// Prints one JSON object: what was done -> null, the text of the error, or 'absent' where this version has no such thing.
const assert = require('node:assert/strict')
const { createRequire } = require('node:module')

const sdk = createRequire(`${process.env.SDK_DIRECTORY}/`)(process.argv[2])
const daytona = new sdk.Daytona()
const name = `matrix-${process.pid}`
const DRAW = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 4], label='a')\nplt.title('T')\nprint('drawn')\nplt.show()\n"
let sandbox

class Absent extends Error {}

/** A property of a thing, if this version has it. */
function has(thing, property) {
  if (thing[property] === undefined) throw new Absent(property)
  return thing[property]
}

/** What a list call found: a list, a page or an iterator, by version. */
async function listed(answer) {
  const found = await answer
  if (found[Symbol.asyncIterator] === undefined) return found.items ?? found
  const all = []
  for await (const each of found) all.push(each)
  return all
}

const steps = {
  async create() {
    sandbox = await daytona.create({ language: 'python', envVars: { GREETING: 'hello' }, labels: { matrix: name } })
    assert.equal(sandbox.state, 'started')
    assert.equal((await daytona.get(sandbox.id)).id, sandbox.id)
    assert.ok((await listed(daytona.list())).some(({ id }) => id === sandbox.id))
  },
  async execute() {
    const { exitCode, result } = await sandbox.process.executeCommand('echo $GREETING; exit 3')
    assert.deepEqual([exitCode, result], [3, 'hello\n'])
    const answer = await sandbox.process.executeCommand('pwd; echo $A', '/tmp', { A: "ü" })
    assert.equal(answer.result, "/tmp\nü\n")
  },
  async code_run() {
    const { exitCode, result, artifacts } = await sandbox.process.codeRun(DRAW)
    assert.deepEqual([exitCode, result], [0, 'drawn\n'])
    const [{ title, elements }] = artifacts.charts
    assert.deepEqual([title, elements], ['T', [{ label: 'a', points: [[0, 1], [1, 2], [2, 4]] }]])
  },
  async files() {
    const { fs } = sandbox
    await fs.createFolder('data', '755')
    await fs.uploadFile(Buffer.from('one\ntwo\n'), 'data/a.txt')
    const bytes = Buffer.alloc(2000, Buffer.from([0, 255]))
    await fs.uploadFiles([{ source: bytes, destination: 'data/b.bin' }])
    assert.deepEqual((await fs.listFiles('data')).map((each) => each.name).sort(), ['a.txt', 'b.bin'])
    assert.ok(bytes.equals(await fs.downloadFile('data/b.bin')))
    assert.deepEqual((await fs.findFiles('data', 'two')).map(({ line, content }) => [line, content]), [[2, 'two']])
    await fs.replaceInFiles(['data/a.txt'], 'two', 'three')
    assert.equal((await fs.downloadFile('data/a.txt')).toString(), 'one\nthree\n')
    await fs.setFilePermissions('data/a.txt', { mode: '600' })
    await fs.moveFiles('data/a.txt', 'data/c.txt')
    assert.equal((await fs.searchFiles('data', '*.txt')).files.length, 1)
    assert.equal((await fs.getFileDetails('data/c.txt')).size, 10)
    await fs.deleteFile('data/c.txt')
  },
  async git() {
    const { git, process: programs } = sandbox
    await programs.executeCommand('git init -q -b main repo && echo 1 > repo/file')
    await git.add('repo', ['file'])
    await git.commit('repo', 'first', 'A', 'a@example.com')
    assert.deepEqual((await git.branches('repo')).branches, ['main'])
    await git.createBranch('repo', 'more')
    await programs.executeCommand('echo 2 > repo/file')
    const { currentBranch, fileStatus } = await git.status('repo')
    assert.deepEqual([currentBranch, fileStatus.map((each) => each.name)], ['more', ['file']])
    assert.equal((await programs.executeCommand('git log --format=%s', 'repo')).result, 'first\n')
  },
  async session() {
    const { process: shell } = sandbox
    await shell.createSession('one')
    await shell.executeSessionCommand('one', { command: 'cd /tmp; A=1' })
    const answer = await shell.executeSessionCommand('one', { command: 'pwd; echo $A; (exit 5)' })
    assert.deepEqual([answer.exitCode, answer.stdout ?? answer.output], [5, '/tmp\n1\n'])
    const logs = await shell.getSessionCommandLogs('one', answer.cmdId)
    assert.equal(logs.stdout ?? logs.output ?? logs, '/tmp\n1\n')
    assert.equal((await shell.getSessionCommand('one', answer.cmdId)).exitCode, 5)
    assert.deepEqual((await shell.listSessions()).map(({ sessionId }) => sessionId), ['one'])
    await shell.deleteSession('one')
  },
  async followed_logs() {
    const { process: shell } = sandbox
    const out = []
    const err = []
    await shell.createSession('two')
    const command = 'for n in 1 2 3; do echo $n; sleep 0.05; done; echo e >&2'
    const { cmdId } = await shell.executeSessionCommand('two', { command, runAsync: true })
    await shell.getSessionCommandLogs('two', cmdId, (chunk) => void out.push(chunk), (chunk) => void err.push(chunk))
    assert.deepEqual([out.join(''), err.join('')], ['1\n2\n3\n', 'e\n'])
  },
  async pty() {
    has(sandbox.process, 'createPty')
    const written = []
    const onData = (data) => void written.push(Buffer.from(data))
    const terminal = await sandbox.process.createPty({ id: 'terminal', cols: 70, rows: 20, onData })
    await terminal.waitForConnection()
    assert.deepEqual((await sandbox.process.listPtySessions()).map(({ id }) => id), ['terminal'])
    await terminal.sendInput('echo "<$(stty size)>"; exit 7\n')
    assert.equal((await terminal.wait()).exitCode, 7)
    assert.match(Buffer.concat(written).toString(), /<20 70>/)
  },
  async interpreter() {
    const interpreter = has(sandbox, 'codeInterpreter')
    await interpreter.runCode('x = 41')
    const { stdout, error } = await interpreter.runCode('print(x + 1)\n1 / 0')
    assert.deepEqual([stdout, error.name], ['42\n', 'ZeroDivisionError'])
    const context = await interpreter.createContext('/')
    assert.equal((await interpreter.runCode('import os; print(os.getcwd())', { context })).stdout, '/\n')
    await interpreter.deleteContext(context)
  },
  async lsp() {
    await sandbox.fs.createFolder('project', '755')
    await sandbox.fs.uploadFile(Buffer.from('class Foo:\n    pass\n'), 'project/m.py')
    const root = `${await sandbox.getWorkDir()}/project`
    const server = await sandbox.createLspServer('python', root)
    await server.start()
    await server.didOpen(`${root}/m.py`)
    assert.deepEqual((await server.documentSymbols(`${root}/m.py`)).map((each) => each.name), ['Foo'])
    await server.stop()
  },
  async volume() {
    const made = await daytona.volume.get(name, true)
    assert.equal((await daytona.volume.get(name)).id, made.id)
    assert.ok((await daytona.volume.list()).some((each) => each.name === name))
    await daytona.volume.delete(made)
  },
  async snapshots() {
    assert.ok((await listed(has(daytona, 'snapshot').list())).length > 0)
  },
  async computer_use() {
    assert.equal((await has(sandbox, 'computerUse').getStatus()).status, 'inactive')
  },
  async preview() {
    const { url, token } = await sandbox.getPreviewLink(3000)
    assert.ok(url.includes('3000') && token)
  },
  async lifecycle() {
    await sandbox.fs.uploadFile(Buffer.from('kept'), 'kept')
    await sandbox.setAutostopInterval(30)
    assert.equal((await sandbox.setLabels({ matrix: name, more: 'yes' })).more, 'yes')
    await sandbox.stop()
    await sandbox.start()
    assert.equal((await sandbox.fs.downloadFile('kept')).toString(), 'kept')
  },
  async delete() {
    await daytona.delete(sandbox)
  },
}

async function main() {
  const answers = {}
  for (const [step, walk] of Object.entries(steps)) {
    try {
      await walk()
      answers[step] = null
    } catch (error) {
      answers[step] = error instanceof Absent ? 'absent' : error.stack
    }
  }
  console.log(JSON.stringify(answers))
}

main()
