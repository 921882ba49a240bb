// The repositories of the SDK, with a remote that needs a login.
import assert from 'node:assert/strict'
import {
  Daytona,
  DaytonaBadRequestError,
  DaytonaConflictError,
  DaytonaGitAuthFailedError,
  DaytonaGitBranchExistsError,
  DaytonaGitBranchNotFoundError,
  DaytonaGitDirtyWorktreeError,
  DaytonaGitPushRejectedError,
  DaytonaGitRepoNotFoundError,
  DaytonaGitTransportFailedError,
} from '@daytonaio/sdk'
import { main, rejects } from './common.mjs'

const { GIT_SERVER, GIT_REMOTE, GIT_USERNAME, GIT_PASSWORD } = process.env
const login = [GIT_USERNAME, GIT_PASSWORD]
const author = ['An Author', 'an@author.example']
const url = GIT_SERVER + GIT_REMOTE
const daytona = new Daytona()
const sandbox = await daytona.create()
const { git, fs } = sandbox
const write = (path, text) => fs.uploadFile(Buffer.from(text), path)

try {
  await main({
    async cloneToPush() {
      await git.clone(url, 'repo', 'feature', undefined, ...login)
      await git.checkoutBranch('repo', 'main')
      let status = await git.status('repo')
      assert.deepEqual([status.currentBranch, status.fileStatus, status.branchPublished], ['main', [], true])
      assert.deepEqual([status.upstream, status.detached, status.ahead], ['origin/main', false, 0])
      await write('repo/new', 'new')
      await git.add('repo', ['new'])
      const { sha } = await git.commit('repo', 'a message', ...author)
      assert.match(sha, /^[0-9a-f]{40}$/)
      assert.equal((await git.status('repo')).ahead, 1)
      await rejects(git.push('repo'), DaytonaGitAuthFailedError, { statusCode: 401, code: 'GIT_AUTH_FAILED' })
      await git.push('repo', ...login)
      await git.createBranch('repo', 'topic')
      await git.push('repo', ...login, 'topic', 'origin', true)
      assert.equal((await git.status('repo')).upstream, 'origin/topic')
      await git.clone(url, 'shallow', undefined, undefined, ...login, false, 1)
      await git.pull('shallow', ...login)
      await git.checkoutBranch('repo', 'main')
      assert.deepEqual((await git.branches('repo')).branches, ['feature', 'main', 'topic'])
      await git.deleteBranch('repo', 'topic')
      await git.clone(url, 'commit', undefined, sha, ...login)
      status = await git.status('commit')
      assert.deepEqual([status.detached, status.currentBranch], [true, 'HEAD'])
    },
    async ownRepository() {
      await git.init('own', false, 'trunk')
      assert.deepEqual((await git.branches('own')).branches, [])
      await write('own/file', 'one')
      await git.add('own', ['.'])
      await git.commit('own', 'one', ...author)
      await git.commit('own', 'empty', ...author, true)
      await write('own/file', 'two')
      await git.add('own', ['file'])
      await git.reset('own')
      await git.restore('own', ['file'])
      await git.reset('own', 'hard', 'HEAD~1')
      assert.deepEqual((await git.status('own')).fileStatus, [])
      await git.remoteAdd('own', 'origin', url.replace('//', '//user:hunter22@'))
      assert.equal(await git.remoteGet('own', 'origin'), url)
      assert.equal(await git.remoteGet('own', 'other'), undefined)
      await rejects(git.remoteAdd('own', 'origin', 'x'), DaytonaConflictError)
      await git.remoteAdd('own', 'origin', 'x', false, true)
      assert.deepEqual((await git.remotes('own')).remotes, [{ name: 'origin', url: 'x' }])
    },
    async configuration() {
      assert.ok((await git.getConfig('test.unset')) == null)
      await git.setConfig('test.key', 'a value')
      assert.equal(await git.getConfig('test.key'), 'a value')
      await git.configureUser('Here', 'h@x', 'local', 'own')
      assert.equal(await git.getConfig('user.name', 'local', 'own'), 'Here')
      await rejects(git.setConfig('test.key', 'x', 'local'), DaytonaBadRequestError)
      const { host } = new URL(GIT_SERVER)
      await git.dangerouslyAuthenticate(...login, host, 'http')
      await git.clone(url, 'kept')
    },
    async typedErrors() {
      await rejects(git.status('nope'), DaytonaGitRepoNotFoundError, { statusCode: 404 })
      await rejects(git.clone(`${GIT_SERVER}nope.git`, 'x'), DaytonaGitRepoNotFoundError)
      await rejects(git.clone(`${GIT_SERVER}open.git`, 'x', 'nope'), DaytonaGitBranchNotFoundError)
      await rejects(git.clone('http://127.0.0.1:9/x', 'x'), DaytonaGitTransportFailedError, { statusCode: 502 })
      await rejects(git.clone(url, 'repo'), DaytonaConflictError)
      await rejects(git.createBranch('repo', 'main'), DaytonaGitBranchExistsError, { statusCode: 409 })
      await rejects(git.deleteBranch('repo', 'main'), DaytonaConflictError)
      await rejects(git.checkoutBranch('repo', 'nope'), DaytonaGitBranchNotFoundError)
      await write('repo/feature.txt', 'mine')
      await rejects(git.checkoutBranch('repo', 'feature'), DaytonaGitDirtyWorktreeError)
      await git.commit('commit', 'elsewhere', ...author, true)
      await git.createBranch('commit', 'main2')
      await git.checkoutBranch('repo', 'main')
      await git.clone(url, 'second', undefined, undefined, ...login)
      await git.commit('second', 'theirs', ...author, true)
      await git.push('second', ...login)
      await git.commit('repo', 'ours', ...author, true)
      await rejects(git.push('repo', ...login), DaytonaGitPushRejectedError, { code: 'GIT_PUSH_REJECTED' })
    },
  })
} finally {
  await sandbox.delete()
}
