// Accessibility by the SDK, on the desktop as it comes.
import assert from 'node:assert/strict'
import { Daytona, DaytonaA11yUnavailableError, DaytonaBadRequestError, DaytonaNotFoundError } from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create()
const { accessibility } = sandbox.computerUse

/** Return the first matches of a search that has some. */
async function eventually(filters) {
  for (let turn = 0; turn < 100; turn++) {
    const { matches } = await accessibility.findNodes({ scope: 'all', ...filters })
    if (matches.length > 0) return matches
    await sandbox.process.executeCommand('sleep 0.2')
  }
  assert.fail(`never found: ${JSON.stringify(filters)}`)
}

try {
  await main({
    async withoutADesktop() {
      const unavailable = { statusCode: 503, code: 'A11Y_UNAVAILABLE' }
      await rejects(accessibility.getTree(), DaytonaA11yUnavailableError, unavailable)
      await rejects(accessibility.findNodes({ role: 'frame' }), DaytonaA11yUnavailableError, unavailable)
      await rejects(accessibility.focusNode(':1.1:/org/x'), DaytonaA11yUnavailableError, unavailable)
    },
    async textAndFocus() {
      await sandbox.computerUse.start()
      await sandbox.process.createSession('editor')
      const command = { command: 'mousepad --disable-server', runAsync: true }
      await sandbox.process.executeSessionCommand('editor', command)
      const [text] = await eventually({ role: 'text', states: ['multi_line', 'showing'] })
      await accessibility.focusNode(text.id)
      await accessibility.setNodeValue(text.id, 'héllo')
      const [changed] = await eventually({ role: 'text', states: ['multi_line'] })
      assert.equal(changed.value, 'héllo')
    },
    async tree() {
      const { root, truncated } = await accessibility.getTree({ scope: 'all', maxDepth: 1 })
      assert.deepEqual([root.role, truncated], ['desktop frame', false])
      assert.ok(root.children.some(({ name }) => name === 'mousepad'))
    },
    async invoke() {
      const [about] = await eventually({ role: 'menu item', name: '^About *$', nameMatch: 'regex' })
      assert.deepEqual(about.actions, ['click'])
      await accessibility.invokeNode(about.id, 'click')
      const [dialog] = await eventually({ role: 'dialog', states: ['showing'] })
      assert.ok(dialog.bounds.width > 0)
    },
    async whatGoesWrong() {
      await rejects(accessibility.getTree({ scope: 'nowhere' }), DaytonaBadRequestError, { code: 'A11Y_INVALID_SCOPE' })
      await rejects(accessibility.getTree({ scope: 'pid', pid: 1 }), DaytonaNotFoundError, { code: 'A11Y_NO_ACCESSIBLE_ROOT' })
      await rejects(accessibility.invokeNode('garbage'), DaytonaBadRequestError, { code: 'A11Y_INVALID_REQUEST' })
    },
  })
} finally {
  await daytona.delete(sandbox)
}
