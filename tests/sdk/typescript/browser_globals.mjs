// What a bundler gives the SDK in place of Node's global; see `browser.mjs`.
export { Buffer } from 'buffer/'
