// A CouchDB in memory: PouchDB behind its HTTP interface. `node couch.js PORT`.
const path = require('path')
const modules = path.join(__dirname, '../../.real/node/node_modules')
const load = (name) => require(path.join(modules, name))

const PouchDB = load('pouchdb-core').plugin(load('pouchdb-adapter-memory')).plugin(load('pouchdb-mapreduce'))
const couch = load('express-pouchdb')(PouchDB.defaults({ adapter: 'memory' }), {
  mode: 'minimumForPouchDB',
  inMemoryConfig: true,
  logPath: '/dev/null',
})
load('express')().use(couch).listen(Number(process.argv[2]), '127.0.0.1')
