// Loaded into Node before a program that comes on standard input: takes the `-` out of its arguments.
if (process.argv[1] === '-') {
  process.argv.splice(1, 1)
  // What the program forks must not load this file.
  const at = process.execArgv.indexOf(__filename)
  if (at > 0) process.execArgv.splice(at - 1, 2)
}
