#!/usr/bin/env python3
"""Makes the example data of the pipelines: invented people, the same bytes at every run.

    python3 pipelines/data/generate.py                        the files as shipped
    python3 pipelines/data/generate.py --rows 1000000 --out /tmp/big    bigger ones, elsewhere

What is in them, as shipped ("line" is the first line of the row in the file; the header is line 1):

    file                rows   sent   skipped                      invalid
    users.csv          1,250  1,219   31 archived                  0
    conversations.json   240    236   2 listed twice               2
    messages.ndjson      600    598   -                            2
    resolve.csv          420    410   7 to keep open, 3 repeated   0
    agents.csv           200    192   8 inactive                   0
    hand-over.csv         60     60   -                            0
    roster.csv           40 agents, in which hand-over looks

Invalid on purpose, always the same rows (counted from 0; again every 240 and 600 rows):

    conversations.json    77  priority that does not exist  181  no message
    messages.ndjson      222  empty text                    451  actor_type that does not exist

Awkward and valid: quotes, commas, line breaks and apostrophes in cells, emoji, right-to-left text,
leading zeros, 1.10, numbers beyond 2^53, ids of 18 and 19 digits, ids that are a UUID followed by
14 digits, texts of several thousand characters, empty cells.

Mail addresses are below example.com, .net and .org, telephone numbers from the ranges kept for
fiction (+1 ... 555 01xx, +44 7700 900xxx): none belongs to anyone.
"""

import argparse
import csv
import json
import random
import re
import unicodedata
import uuid
from pathlib import Path

SEED = 20260401

FIRST = """Amina Jonas Chloé Liam Noor Mateo Zoë Ivan Priya Kwame Sofia Lukas Yuki Fatima Oliver Ingrid Tomás Aisha
Henrik Mei Paulo Nadia Björn Lucía Samuel Leïla Viktor Hana Diego Elif Marta Owen Rania Pierre Anjali Nils Grace Emre
Julia Kofi Łukasz Sara Thảo Miguel Freya Omar Camila Piotr Ruth Daniel محمد נועה 伟 ゆい Ольга""".split()
LAST = """O'Brien Müller García Smith Nguyễn Kowalski Okafor Hansen Rossi D'Angelo Silva Dubois Novák Yılmaz Tanaka
Johnson Ferreira Lindqvist Mensah Patel Jensen Moreau Schmidt Costa Papadopoulos Murphy Øster Haddad Weber Romero Singh
Larsen Ivanova Suzuki Brown Fischer Castro Keller Abebe Lopez الحسن כהן 王 さとう Петрова""".split()
COMPANIES = ["Northwind, Inc.", 'The "Blue Door" Bakery', "Acme GmbH & Co. KG", "Ærø Shipping", "Müller Söhne",
             "<b>Bold</b> Design", "50% Off; Outlet", "Tea/Time \\ Ltd", "شركة النور", "花屋", "Null Set", "{{ braces }}"]
STREETS = ["Elm Street", "Rue de l'Église", "Hauptstraße", "Calle Mayor", "King's Road", "Storgata"]
PLANS = ["free", "free", "free", "growth", "growth", "pro", "enterprise"]
DOMAINS = ["example.com", "example.net", "example.org"]
OPENERS = [
    "Hello, my parcel has not arrived yet.",
    'The app says "payment failed", but the money is gone.',
    "Can I change the delivery address?\nThe new one is on the invoice.",
    "Great service, thank you! 🎉👍🏽",
    "مرحبا، أين طلبي؟",
    "שלום, איפה ההזמנה שלי?",
    "I was charged 1.10 instead of 1.01 – why?",
    "It's broken: see C:\\temp\\log.txt; 100% reproducible & <urgent>",
    "Where is {{ order }}? That is what your mail calls it.",
    "注文をキャンセルしたいです。",
]
ANSWERS = [
    "Your parcel left our house this morning.",
    "Thank you for waiting, we're looking into it.",
    'Please press "Restart", then try again.',
    "Your refund of 1.10 is on its way 💶",
    "شكرا لانتظارك.",
    "Line one\nLine two\n\tand a tab",
]
NOTES = ["Called twice, no answer.", "Refund approved by finance (ref 000451).", "VIP; handle with care"]
LONG = "This is a long story, and every word of it is needed to understand the case. "


class Maker:
    """Random things of one file, drawn from its own stream so that files do not change each other."""

    def __init__(self, name):
        self.rng = random.Random(f"{SEED}:{name}")
        self.pick = self.rng.choice

    def chance(self, share):
        return self.rng.random() < share

    def uuid(self):
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def user_id(self):
        month, day, hour, minute = (self.rng.randint(*ends) for ends in ((1, 12), (1, 28), (0, 23), (0, 59)))
        stamp = f"2025{month:02}{day:02}{hour:02}{minute:02}00"
        return self.uuid() + (stamp if self.chance(0.2) else "")

    def org_id(self):
        return str(self.rng.randint(10**17, 9 * 10**18))

    def money(self):
        return self.pick(["1.10", "0.00", "10.50", "-3.20", f"{self.rng.randint(0, 99999)}.{self.rng.randint(0, 99):02}"])

    def phone(self):
        if self.chance(0.5):
            return f"+1-{self.pick([202, 303, 415, 617])}-555-01{self.rng.randint(0, 99):02}"
        return f"+44 7700 900{self.rng.randint(0, 999):03}"


def slug(text):
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9']", "", plain) or "user"


def users(rows):
    make = Maker("users")
    for n in range(rows):
        first, last = make.pick(FIRST), make.pick(LAST)
        at = n % 1250
        row = {
            "reference_id": f"{n + 1:06}",
            "first_name": first,
            "last_name": last,
            # The number makes every address the only one of its kind.
            "email": f"{slug(first)}.{slug(last)}{'+news' if make.chance(0.1) else ''}{n}@{make.pick(DOMAINS)}",
            "phone": make.phone() if make.chance(0.8) else "",
            "avatar_url": f"https://example.com/avatars/{n + 1:06}.png" if make.chance(0.6) else "",
            "company": make.pick(COMPANIES) if make.chance(0.7) else "",
            "plan": make.pick(PLANS) if make.chance(0.95) else "",
            "balance": make.money() if make.chance(0.9) else "",
            "address": f"{make.rng.randint(1, 300)} {make.pick(STREETS)},\n{make.rng.randint(0, 99999):05} Springfield"
            if make.chance(0.5) else "",
            "status": "archived" if n % 40 == 17 else "active",
            "internal_note": make.pick(NOTES) if make.chance(0.2) else "",
        }
        row.update({
            10: {"first_name": "Zoë ✨", "last_name": 'de "la" Cruz, Jr.'},
            25: {"first_name": "אורי", "last_name": ""},
            60: {"last_name": "", "email": "", "company": "", "plan": "", "balance": "", "address": ""},
            120: {"first_name": "  Padded  ", "last_name": "=1+2"},
            240: {"company": ("Very " * 50) + "Long"},
            360: {"address": "Flat 3\r\n\"Rose Cottage\"\r\n1 King's Road\r\n" + "Care of the neighbours. " * 35},
            480: {"first_name": "null", "last_name": "true", "balance": "1.10"},
        }.get(at, {}))
        yield row


def conversations(rows):
    make = Maker("conversations")
    channels = [make.uuid() for _ in range(3)]
    groups = [make.uuid() for _ in range(4)]
    earlier = None
    for n in range(rows):
        at = n % 240
        record = {
            "ticket": f"T-{n + 1:06}",
            "user_id": make.user_id(),
            "channel_id": make.pick(channels),
            "message": make.pick(OPENERS),
            "priority": make.pick(["Low", "Medium", "Medium", "High", "Urgent"]),
            "assign": make.pick([{}, {"group_id": make.pick(groups)}, {"org_agent_id": make.org_id()}]),
            # A number goes through `json` as text, since a float would lose digits.
            "order": {"number": f"{make.rng.randint(1, 99999):08}", "total": "@" + make.money().lstrip("-"),
                      "ledger_id": 2**53 + 1 + make.rng.randint(0, 10**15)},
        }
        if make.chance(0.2):
            del record["priority"]
        if at in (40, 160):
            record["message"] = LONG * 90 + "😀"
        if at == 77:
            record["priority"] = "Critical"
        if at == 181:
            del record["message"]
        if at in (100, 200):
            record = earlier
        earlier = record
        yield re.sub(r'"@(-?[0-9.]+)"', r"\1", json.dumps(record, ensure_ascii=False))


def messages(rows):
    make = Maker("messages")
    agents = [make.uuid() for _ in range(12)]
    talks = []
    for n in range(rows):
        at = n % 600
        if len(talks) < 40 or make.chance(0.2):
            talks.append((make.uuid(), make.user_id()))
        talk, user = make.pick(talks[-40:])
        private = make.chance(0.1)
        speaker = "agent" if private or make.chance(0.7) else "user"
        record = {
            "message_ref": f"msg-{n + 1:08}",
            "conversation_id": talk,
            "actor_type": speaker,
            "actor_id": make.pick(agents) if speaker == "agent" else user,
            # The number keeps texts apart, which is what makes a message in doubt recognisable.
            "text": f"{make.pick(NOTES if private else ANSWERS if speaker == 'agent' else OPENERS)} [{n + 1:04}]",
            "private": private,
        }
        if at in (50, 350):
            record["text"] = LONG * 120 + record["text"]
        if at == 222:
            record["text"] = ""
        if at == 451:
            record["actor_type"] = "customer"
        yield json.dumps(record, ensure_ascii=False)


def resolve(rows):
    make = Maker("resolve")
    earlier = {}
    for n in range(rows):
        conversation = make.uuid()
        # Once in 140 rows a conversation of twenty rows ago comes again.
        if n % 140 == 139 and n - 20 in earlier:
            conversation = earlier[n - 20]
        earlier[n] = conversation
        earlier.pop(n - 21, None)
        yield {
            "Conversation ID": conversation,
            "Customer": f"{make.pick(FIRST)} {make.pick(LAST)}",
            "Last message": make.pick(OPENERS + ANSWERS) if make.chance(0.9) else "",
            "Keep open": "yes" if n % 60 == 31 else make.pick(["no", ""]),
        }


def agents(rows):
    make = Maker("agents")
    groups = [make.uuid() for _ in range(6)]
    roles = [make.org_id() for _ in range(4)]
    for n in range(rows):
        yield {
            "agent_id": make.uuid(),
            "employee_number": f"{n * 7 + 3:07}",
            "first_name": make.pick(FIRST),
            "last_name": make.pick(LAST) if make.chance(0.95) else "",
            "role_id": make.pick(roles),
            "groups": json.dumps(make.rng.sample(groups, make.rng.randint(0, 3))),
            "active": "false" if n % 25 == 9 else "true",
            "remark": make.pick(['Says "call me Joe"', "Part time, mornings\nand Fridays", "Berlin; remote", ""]),
        }


def roster(rows):
    make = Maker("roster")
    for n in range(rows):
        yield {"email": f"agent{n + 1}@example.com", "id": make.uuid(), "name": f"{make.pick(FIRST)} {make.pick(LAST)}"}


def hand_over(rows, agents):
    make = Maker("hand-over")
    for _ in range(rows):
        mail = f"agent{make.rng.randint(1, agents)}@example.com"
        yield {"conversation_id": make.uuid(), "agent": make.pick([mail, mail.upper(), mail.title(), f" {mail}"])}


def write_csv(path, records):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = None
        for record in records:
            if writer is None:
                writer = csv.DictWriter(file, list(record), lineterminator="\n")
                writer.writeheader()
            writer.writerow(record)


def write_lines(path, lines, before="", between="\n", after="\n"):
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(before)
        for n, line in enumerate(lines):
            file.write((between if n else "") + line)
        file.write(after)


def main():
    parser = argparse.ArgumentParser(description="Makes the example data of the pipelines.")
    parser.add_argument("--rows", type=int, help="rows of every file; default: as shipped")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    args = parser.parse_args()
    if args.rows is not None and args.rows < 1:
        parser.error("--rows has to be at least 1")
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(args.out / "users.csv", users(args.rows or 1250))
    write_lines(args.out / "conversations.json", conversations(args.rows or 240), "[\n", ",\n", "\n]\n")
    write_lines(args.out / "messages.ndjson", messages(args.rows or 600))
    write_csv(args.out / "resolve.csv", resolve(args.rows or 420))
    write_csv(args.out / "agents.csv", agents(args.rows or 200))
    write_csv(args.out / "roster.csv", roster(40))
    write_csv(args.out / "hand-over.csv", hand_over(args.rows or 60, 40))


if __name__ == "__main__":
    main()
