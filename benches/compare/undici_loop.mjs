// What somebody writes in an afternoon: reads the CSV, makes JSON, sends it with many at once.
//
// Arguments: KIND FILE URL LANES. Nothing is checked but the status, nothing is noted. NODE_MODULES says
// where undici is installed.

import { createReadStream } from "node:fs";
import { createRequire } from "node:module";

const { Pool } = createRequire(`${process.env.NODE_MODULES}/`)("undici");

const TOKEN = "bench-token";
const IN_ONE_CALL = 100;

// Rows of a CSV file with quotes and line breaks in cells, as objects.
async function* rows(file) {
  let names;
  let cells = [];
  let cell = "";
  let quoted = false;
  // A quote at the end of a chunk may be the first of two.
  let closing = false;
  for await (const chunk of createReadStream(file, { encoding: "utf8", highWaterMark: 1 << 18 })) {
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      const letter = chunk.charCodeAt(at);
      if (closing) {
        closing = false;
        if (letter === 34) {
          cell += '"';
          from = at + 1;
          continue;
        }
        quoted = false;
        from = at;
      }
      if (quoted) {
        if (letter === 34) {
          cell += chunk.slice(from, at);
          closing = true;
        }
      } else if (letter === 34) {
        quoted = true;
        from = at + 1;
      } else if (letter === 44 || letter === 10) {
        cells.push(cell + chunk.slice(from, at));
        cell = "";
        from = at + 1;
        if (letter === 10) {
          if (names) {
            const row = {};
            for (let i = 0; i < names.length; i++) row[names[i]] = cells[i];
            yield row;
          } else {
            names = cells;
          }
          cells = [];
        }
      }
    }
    if (!closing) cell += chunk.slice(from);
  }
}

function user(row) {
  const body = {};
  for (const name of ["reference_id", "first_name", "last_name", "email", "phone"]) {
    if (row[name]) body[name] = row[name];
  }
  if (row.avatar_url) body.avatar = { url: row.avatar_url };
  body.properties = [];
  for (const name of ["company", "plan", "balance", "address"]) {
    if (row[name]) body.properties.push({ name, value: row[name] });
  }
  return JSON.stringify(body);
}

function agent(row) {
  const { first_name, last_name, role_id } = row;
  return JSON.stringify({ first_name, last_name, role_id, groups: JSON.parse(row.groups) });
}

function document(row) {
  const fields = {};
  for (const name in row) {
    if (row[name] && name !== "status" && name !== "internal_note") fields[name] = row[name];
  }
  return `${JSON.stringify({ index: { _id: row.reference_id } })}\n${JSON.stringify(fields)}\n`;
}

async function* calls(kind, rows) {
  if (kind === "single") {
    for await (const row of rows) yield ["POST", "/users", "application/json", user(row)];
  } else if (kind === "update") {
    for await (const row of rows) yield ["PUT", `/agents/${row.agent_id}`, "application/json", agent(row)];
  } else {
    const bulk = (lines) => ["POST", "/people/_bulk", "application/x-ndjson", lines.join("")];
    let lines = [];
    for await (const row of rows) {
      lines.push(document(row));
      if (lines.length === IN_ONE_CALL) {
        yield bulk(lines);
        lines = [];
      }
    }
    if (lines.length > 0) yield bulk(lines);
  }
}

const [kind, file, base, lanes] = process.argv.slice(2);
const pool = new Pool(base, { connections: Number(lanes), pipelining: 1 });
// One generator for all lanes: each takes the next call.
const made = calls(kind, rows(file));

async function lane() {
  for (;;) {
    const { value, done } = await made.next();
    if (done) return;
    const [method, path, content, body] = value;
    const headers = { authorization: `Bearer ${TOKEN}`, accept: "application/json", "content-type": content };
    const reply = await pool.request({ method, path, headers, body });
    if (reply.statusCode >= 300) throw new Error(`status ${reply.statusCode}`);
    await reply.body.json();
  }
}

await Promise.all(Array.from({ length: Number(lanes) }, lane));
await pool.close();
