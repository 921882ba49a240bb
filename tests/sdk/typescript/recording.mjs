// Notes which methods of the SDK a scenario calls, and tells which it does not. Nothing of the SDK is changed: what is
// noted goes through proxies around its objects.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { DaytonaError } from '@daytonaio/sdk'
import ts from 'typescript'

const PLACE = join(dirname(createRequire(import.meta.url).resolve('@daytonaio/sdk')), '..', 'esm')
const original = Symbol('original')

/** Return a class that the SDK has but does not export. */
export async function internal(file, name) {
  return (await import(join(PLACE, `${file}.js`)))[name]
}

/** What was called, as `Class.method`. */
export class Record {
  answered = new Set()
  refused = new Set()

  /** `refusals`: how a method, or one way to call it, must be refused: case -> [status, code, part of the message]. */
  constructor(refusals) {
    this.refusals = refusals
  }

  /** Wait for a call that some drivers refuse, and tell whether it was answered; what was documented must hold. */
  async attempt(name, call) {
    if (!(name in this.refusals)) {
      await call
      return true
    }
    const [status, code, says] = this.refusals[name]
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof DaytonaError, error.stack)
      assert.deepEqual([error.statusCode, error.code], [status, code], error.message)
      assert.ok(error.message.includes(says), error.message)
      return true
    })
    this.refused.add(name)
    return false
  }

  /** Watch an object, or the statics of a class: calls are noted once they are answered. */
  watch(target, kinds) {
    const name = typeof target === 'function' ? target.name : target.constructor.name
    const watched = (value) => (kinds.some((kind) => value instanceof kind) ? this.watch(value, kinds) : value)
    const note = (key, value) => {
      this.answered.add(`${name}.${String(key)}`)
      return watched(value)
    }
    return new Proxy(target, {
      get: (_, key) => {
        if (key === original) return target
        const found = Reflect.get(target, key, target)
        if (typeof found !== 'function') return note(key, found)
        return (...given) => {
          const answer = found.apply(target, given.map(plain))
          if (typeof answer?.[Symbol.asyncIterator] === 'function') return iterate(answer, (each) => note(key, each))
          return typeof answer?.then === 'function' ? answer.then((each) => note(key, each)) : note(key, answer)
        }
      },
    })
  }

  /** Name each method that was neither answered nor refused (or its class was), and each refusal that was not seen. */
  missing(files) {
    const wanted = new Set([...files.flatMap(declared), ...Object.keys(this.refusals)])
    const refused = (each) => this.refused.has(each) || this.refused.has(each.split('.')[0])
    return [...wanted].filter((each) => !this.answered.has(each) && !refused(each)).sort()
  }
}

/** Return what a proxy is of; also in the fields of parameters. */
function plain(value) {
  if (value?.[original]) return value[original]
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, each?.[original] ?? each]))
}

async function* iterate(answer, note) {
  for await (const each of answer) yield note(each)
}

/** Return the public methods, accessors and parts of the class that a file declares, as `Class.method`. */
function declared(file) {
  const text = readFileSync(join(PLACE, `${file}.d.ts`), 'utf8')
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest)
  const has = (member, keyword) => member.modifiers?.some(({ kind }) => kind === keyword)
  const found = source.statements.filter(ts.isClassDeclaration).flatMap((kind) =>
    kind.members
      // What is not `readonly` is data.
      .filter((each) => !ts.isPropertyDeclaration(each) || has(each, ts.SyntaxKind.ReadonlyKeyword))
      .filter((each) => !ts.isConstructorDeclaration(each) && !has(each, ts.SyntaxKind.PrivateKeyword))
      .map((each) => `${kind.name.text}.${nameOf(each.name, source)}`),
  )
  assert.notDeepEqual(found, [], `${file} shows no methods: this looks for them in the wrong place`)
  return found
}

function nameOf(name, source) {
  const text = name.getText(source)
  return ts.isComputedPropertyName(name) ? text.replace(/^\[(.*)\]$/, 'Symbol($1)') : text
}
