// What an agent does with a computer, through the SDK on the whole desktop.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { Daytona } from '@daytonaio/sdk'
import { main } from './common.mjs'

const TEXT = 'Hello Grüße Ελλάδα 日本語 😀🚀 {a}$~#€'
const daytona = new Daytona()
const sandbox = await daytona.create()
const { computerUse: computer, process: shell } = sandbox

async function eventually(look) {
  for (let n = 0; n < 150; n += 1) {
    const found = await look()
    if (found) return found
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error('not found')
}

async function run(name, command) {
  await shell.createSession(name)
  await shell.executeSessionCommand(name, { command, runAsync: true })
}

/** Return the window with this in its title, once it is there and in front. */
const windowOf = (title) =>
  eventually(async () => {
    const { windows } = await computer.display.getWindows()
    return windows.find((each) => each.title.includes(title) && each.isActive)
  })

try {
  await main({
    async start() {
      await computer.start()
    },
    async aTerminal() {
      await run('terminal', `xfce4-terminal --disable-server --title=term -e 'sh -c "cat > typed"'`)
      await windowOf('term')
      await computer.keyboard.type(`${TEXT}\n`)
      await computer.keyboard.hotkey('ctrl+d')
      const typed = async () => (await shell.executeCommand('cat typed 2>/dev/null')).result
      assert.equal(await eventually(typed), `${TEXT}\n`)
      await shell.deleteSession('terminal')
    },
    async anEditor() {
      await run('editor', 'mousepad --disable-server typed-too')
      await windowOf('typed-too')
      await computer.keyboard.type(TEXT)
      await computer.keyboard.hotkey('ctrl+s')
      await eventually(async () => (await shell.executeCommand('ls')).result.includes('typed-too'))
      assert.equal((await shell.executeCommand('cat typed-too')).result.trimEnd(), TEXT)
      await shell.deleteSession('editor')
    },
    async aWindowIsDraggedAndFilmed() {
      await run('editor', 'mousepad --disable-server dragged')
      const before = await windowOf('dragged')
      const film = await computer.recording.start('drag')
      const [x, y] = [before.x + Math.trunc(before.width / 2), before.y - Math.trunc(before.frame.top / 2)]
      await computer.mouse.drag(x, y, x + 120, y + 90)
      const after = await eventually(async () => {
        const now = await windowOf('dragged')
        return now.x !== before.x && now.y !== before.y ? now : undefined
      })
      assert.deepEqual([after.x - before.x, after.y - before.y], [120, 90])
      const { screenshot } = await computer.screenshot.takeFullScreen()
      assert.ok(Buffer.from(screenshot, 'base64').subarray(1, 4).equals(Buffer.from('PNG')))
      const done = await computer.recording.stop(film.id)
      assert.equal(done.status, 'completed')
      const directory = mkdtempSync(`${process.env.TMPDIR}/film-`)
      try {
        await computer.recording.download(film.id, `${directory}/film.mp4`)
        const probe = ['-v', 'error', '-count_frames', '-show_streams', '-of', 'json', `${directory}/film.mp4`]
        const [stream] = JSON.parse(execFileSync('ffprobe', probe)).streams
        assert.deepEqual([stream.width, stream.height, stream.codec_name], [1024, 768, 'h264'])
        assert.ok(Number(stream.nb_read_frames) > 1)
      } finally {
        rmSync(directory, { recursive: true })
      }
      await computer.recording.delete(film.id)
      await shell.deleteSession('editor')
    },
  })
} finally {
  await sandbox.delete()
}
