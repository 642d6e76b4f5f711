"""What somebody writes in an afternoon: reads the CSV, makes JSON, sends it with many at once.

Arguments: KIND FILE URL LANES. Nothing is checked but the status, nothing is noted.
"""

import asyncio
import csv
import json
import sys

import aiohttp

TOKEN = "bench-token"
IN_ONE_CALL = 100


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def user(row):
    names = ("reference_id", "first_name", "last_name", "email", "phone")
    body = {name: row[name] for name in names if row[name]}
    if row["avatar_url"]:
        body["avatar"] = {"url": row["avatar_url"]}
    names = ("company", "plan", "balance", "address")
    body["properties"] = [{"name": name, "value": row[name]} for name in names if row[name]]
    return body


def agent(row):
    body = {name: row[name] for name in ("first_name", "last_name", "role_id")}
    body["groups"] = json.loads(row["groups"])
    return body


def document(row):
    action = {"index": {"_id": row["reference_id"]}}
    left_out = ("status", "internal_note")
    fields = {name: cell for name, cell in row.items() if cell and name not in left_out}
    return compact(action) + "\n" + compact(fields) + "\n"


def calls(kind, rows):
    """Method, path, content and body of each call, made while the file is read."""
    if kind == "single":
        for row in rows:
            yield "POST", "/users", "application/json", compact(user(row)).encode()
    elif kind == "update":
        for row in rows:
            yield "PUT", "/agents/" + row["agent_id"], "application/json", compact(agent(row)).encode()
    else:
        lines = []
        for row in rows:
            lines.append(document(row))
            if len(lines) == IN_ONE_CALL:
                yield "POST", "/people/_bulk", "application/x-ndjson", "".join(lines).encode()
                lines = []
        if lines:
            yield "POST", "/people/_bulk", "application/x-ndjson", "".join(lines).encode()


async def lane(session, base, made):
    for method, path, content, body in made:
        async with session.request(method, base + path, data=body, headers={"Content-Type": content}) as reply:
            reply.raise_for_status()
            await reply.json()


async def main(kind, file, base, lanes):
    headers = {"Authorization": "Bearer " + TOKEN, "Accept": "application/json"}
    connector = aiohttp.TCPConnector(limit=lanes)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        with open(file, newline="", encoding="utf-8") as rows:
            # One generator for all lanes: each takes the next call.
            made = calls(kind, csv.DictReader(rows))
            await asyncio.gather(*(lane(session, base, made) for _ in range(lanes)))


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
