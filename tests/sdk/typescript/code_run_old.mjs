// An SDK older than the route for programs: it runs them as commands, in a wrapper of its own that prints charts.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { main } from './common.mjs'

const { Daytona } = createRequire(import.meta.url)('daytona-sdk-0.143')
const daytona = new Daytona()
const sandbox = await daytona.create({ language: 'python' })
const { process: programs } = sandbox
const DRAW = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 4], label='a')\nplt.title('T')\n"

try {
  await main({
    async aProgram() {
      const answer = await programs.codeRun("import sys\nprint('hé', sys.argv[1:])\nsys.exit(3)", { argv: ['a', 'b'] })
      assert.deepEqual([answer.exitCode, answer.result], [3, "hé ['a', 'b']\n"])
    },
    async itsOwnCharts() {
      const { exitCode, result, artifacts } = await programs.codeRun(`print('before')\n${DRAW}plt.show()\nprint('after')`)
      assert.deepEqual([exitCode, result], [0, 'before\nafter\n'])
      assert.equal(artifacts.charts.length, 1)
      const [{ type, title, elements, png }] = artifacts.charts
      assert.deepEqual([type, title], ['line', 'T'])
      assert.deepEqual(elements, [{ label: 'a', points: [[0, 1], [1, 2], [2, 4]] }])
      assert.ok(Buffer.from(png, 'base64').subarray(1, 4).equals(Buffer.from('PNG')))
    },
    async itsOutputVerbatim() {
      const lines = ['dtn_artifact_k39fd2:{"type":"chart","value":{"type":"line","title":"X","elements":[]}}', 'end']
      const { result } = await programs.executeCommand(`printf '%s\\n' '${lines.join("' '")}'`)
      assert.equal(result, 'end\n')
      const { artifacts } = await programs.executeCommand(`printf '%s\\n' '${lines.join("' '")}'`)
      assert.equal(artifacts.charts[0].title, 'X')
    },
    async noHookOfOurs() {
      const { result } = await programs.codeRun(
        `${DRAW}import sys\nprint([name for name in sys.modules if name.startswith('_toolbox')])\nprint(plt.show.__module__ != '_toolbox_charts')`,
      )
      assert.equal(result, '[]\nTrue\n')
    },
  })
} finally {
  await daytona.delete(sandbox)
}
