// The language servers of the SDK: the real ones.
import assert from 'node:assert/strict'
import { Daytona, DaytonaBadRequestError, DaytonaLspServerNotInitializedError, LspLanguageId } from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const daytona = new Daytona()
const sandbox = await daytona.create({ envVars: { PATH: process.env.SANDBOX_PATH } })

const files = {
  python: { file: 'm.py', text: 'class Foo:\n    def bar(self, x):\n        return x\n\n\nFoo().\n', line: 5, character: 6 },
  typescript: { file: 'm.ts', text: 'class Foo { bar(x: number) { return x } }\nnew Foo().\n', line: 1, character: 10 },
  javascript: { file: 'm.js', text: 'class Foo { bar(x) { return x } }\nnew Foo().\n', line: 1, character: 10 },
}

async function fromStartToStop(language) {
  const { file, text, line, character } = files[language]
  await sandbox.fs.uploadFile(Buffer.from(text), `${language}/${file}`)
  const lsp = await sandbox.createLspServer(language, language)
  await rejects(lsp.documentSymbols(file), DaytonaLspServerNotInitializedError, { statusCode: 400 })
  await lsp.start()
  await lsp.didOpen(file)
  const { isIncomplete, items } = await lsp.completions(file, { line, character })
  assert.equal(isIncomplete, false)
  assert.ok(items.some(({ label }) => label.split('(')[0] === 'bar'))
  assert.ok((await lsp.completions(file, { line: 0, character: 0 })).items.length > 0)
  const symbols = await lsp.documentSymbols(file)
  const foo = symbols.find(({ name }) => name === 'Foo')
  assert.deepEqual([foo.kind, foo.location.range.start.line], [5, 0])
  assert.ok(foo.location.uri.endsWith(`/${language}/${file}`))
  assert.ok((await lsp.sandboxSymbols('Foo')).some(({ name }) => name === 'Foo'))
  const many = Array.from({ length: 50 }, () => lsp.documentSymbols(file))
  for (const answer of await Promise.all(many)) assert.deepEqual(answer, symbols)
  await rejects(lsp.completions(file, { line: 99, character: 0 }), DaytonaBadRequestError, { statusCode: 400 })
  await rejects(lsp.didOpen('none'), DaytonaBadRequestError, { statusCode: 400 })
  await lsp.didClose(file)
  await lsp.stop()
}

try {
  await main({
    python: () => fromStartToStop(LspLanguageId.PYTHON),
    typescript: () => fromStartToStop(LspLanguageId.TYPESCRIPT),
    javascript: () => fromStartToStop(LspLanguageId.JAVASCRIPT),
    async unknownProject() {
      const lsp = await sandbox.createLspServer(LspLanguageId.PYTHON, 'no/such')
      await rejects(lsp.start(), DaytonaBadRequestError, { statusCode: 400 })
    },
  })
} finally {
  await daytona.delete(sandbox)
}
