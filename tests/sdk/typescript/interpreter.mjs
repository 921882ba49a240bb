// The code interpreter through the SDK.
import assert from 'node:assert/strict'
import { Daytona, DaytonaError, DaytonaTimeoutError } from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create({ language: 'python' })
const { codeInterpreter: interpreter } = sandbox

try {
  await main({
    async outputAndState() {
      const seen = []
      const answer = await interpreter.runCode("import sys\nx = 41\nprint('hé')\nprint('e', file=sys.stderr)", {
        onStdout: ({ output }) => seen.push(['stdout', output]),
        onStderr: ({ output }) => seen.push(['stderr', output]),
      })
      assert.deepEqual([answer.stdout, answer.stderr, answer.error], ['hé\n', 'e\n', undefined])
      assert.deepEqual(seen, [['stdout', 'hé\n'], ['stderr', 'e\n']])
      assert.equal((await interpreter.runCode('print(x + 1)')).stdout, '42\n')
    },
    async anError() {
      const errors = []
      const { error } = await interpreter.runCode('1 / 0', { onError: (each) => errors.push(each) })
      assert.deepEqual([error.name, error.value], ['ZeroDivisionError', 'division by zero'])
      assert.match(error.traceback, /File "<stdin>", line 1/)
      assert.deepEqual(errors, [error])
    },
    async aDeadKernel() {
      const { error } = await interpreter.runCode('import os; os._exit(3)')
      assert.equal(error.name, 'KernelDied')
      assert.equal((await interpreter.runCode("print('back')")).stdout, 'back\n')
    },
    async aTimeout() {
      await interpreter.runCode('kept = 1')
      await rejects(interpreter.runCode('while True: pass', { timeout: 1 }), DaytonaTimeoutError)
      assert.equal((await interpreter.runCode('print(kept)')).stdout, '1\n')
    },
    async variables() {
      const code = "import os; print(os.environ.get('GREETING'))"
      assert.equal((await interpreter.runCode(code, { envs: { GREETING: 'x y' } })).stdout, 'x y\n')
      assert.equal((await interpreter.runCode(code)).stdout, 'None\n')
    },
    async contexts() {
      const context = await interpreter.createContext('/')
      assert.deepEqual([context.cwd, context.language, context.active], ['/', 'python', true])
      assert.equal((await interpreter.runCode('import os; print(os.getcwd())', { context })).stdout, '/\n')
      assert.ok((await interpreter.listContexts()).some(({ id }) => id === context.id))
      await interpreter.deleteContext(context)
      await rejects(interpreter.deleteContext(context), DaytonaError)
      await assert.rejects(interpreter.runCode('1', { context }), /context not found/)
    },
    async chartsAndValues() {
      const code = "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()\nprint('after')\n42"
      const { stdout, error } = await interpreter.runCode(code)
      assert.deepEqual([stdout, error], ['after\n', undefined])
    },
    async muchOutput() {
      const { stdout } = await interpreter.runCode("print('é' * 3_000_000)")
      assert.equal(stdout, 'é'.repeat(3_000_000) + '\n')
    },
  })
} finally {
  await sandbox.delete()
}
