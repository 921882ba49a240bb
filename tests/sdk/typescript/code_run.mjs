// Running programs, and their charts, through the SDK.
import assert from 'node:assert/strict'
import { Daytona } from '@daytonaio/sdk'
import { main } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create({ language: 'python' })
const { process: programs } = sandbox

try {
  await main({
    async aProgram() {
      const answer = await programs.codeRun(
        "import os, sys\nprint('hé', sys.argv[1:], os.environ['A'])\nsys.exit(3)",
        { argv: ['a b', '$HOME', "'"], env: { A: 'x y' } },
      )
      assert.deepEqual([answer.exitCode, answer.result], [3, `hé ['a b', '$HOME', "'"] x y\n`])
      assert.equal(answer.artifacts.stdout, answer.result)
    },
    async anError() {
      const { exitCode, result } = await programs.codeRun('def f():\n    return 1 / 0\nf()')
      assert.equal(exitCode, 1)
      assert.match(result, /File "<stdin>", line 3, in <module>\n {4}f\(\)\n[^]*ZeroDivisionError/)
    },
    async aTimeout() {
      await assert.rejects(programs.codeRun('import time; time.sleep(1000)', undefined, 1), /timed out/)
    },
    async charts() {
      const { artifacts } = await programs.codeRun(
        `import matplotlib.pyplot as plt
plt.plot([1, 2, 4], label='a'); plt.title('L'); plt.xlabel('X'); plt.show()
plt.scatter([1, 2], [3, 4]); plt.show()
plt.bar(['x', 'y'], [1, 2.5]); plt.show()
plt.pie([1, 3], labels=['a', 'b']); plt.show()
plt.boxplot([1, 2, 3]); plt.show()
figure, axes = plt.subplots(1, 2); axes[0].plot([1, 2]); axes[1].bar(['x'], [3]); plt.show()
plt.imshow([[1, 2], [3, 4]]); plt.show()`,
      )
      const kinds = ['line', 'scatter', 'bar', 'pie', 'box_and_whisker', 'composite_chart', 'unknown']
      assert.deepEqual(artifacts.charts.map(({ type }) => type), kinds)
      const [line, , bar] = artifacts.charts
      assert.deepEqual([line.title, line.x_label, line.x_scale], ['L', 'X', 'linear'])
      assert.deepEqual(line.elements, [{ label: 'a', points: [[0, 1], [1, 2], [2, 4]] }])
      assert.deepEqual(bar.elements.map(({ label, value }) => [label, Number(value)]), [['x', 1], ['y', 2.5]])
      for (const { png } of artifacts.charts) assert.ok(Buffer.from(png, 'base64').subarray(1, 4).equals(Buffer.from('PNG')))
    },
    async otherLanguages() {
      for (const [language, code] of Object.entries({
        javascript: 'console.log(3, process.argv.slice(1))',
        typescript: 'enum A { B = 3 }\nconst x: number = A.B\nconsole.log(x, process.argv.slice(1))',
      })) {
        const other = await daytona.create({ language })
        try {
          const { exitCode, result } = await other.process.codeRun(code, { argv: ['a b'] })
          assert.deepEqual([exitCode, result], [0, "3 [ 'a b' ]\n"])
        } finally {
          await other.delete()
        }
      }
    },
  })
} finally {
  await sandbox.delete()
}
