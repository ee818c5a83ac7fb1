"""What a Python program asks of etcd, by the package etcd3, of the server that is named.

    smoke.py HOST PORT [CA CERTIFICATE KEY]

Ends with 0 and a line for each part, or with the first thing that is not as etcd has it.
"""

import io
import sys
import threading

import etcd3
from etcd3 import exceptions

LIMIT_SECONDS = 30


def main(host, port, *files):
    names = ("ca_cert", "cert_cert", "cert_key")
    connect = lambda: etcd3.client(host=host, port=int(port), timeout=LIMIT_SECONDS, **dict(zip(names, files)))
    with connect() as client, connect() as other:
        for part in (pairs, transactions, watches, leases, locks, maintenance):
            part(client, other)
            print(part.__name__, flush=True)


def require(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what}: {got!r}, wanted {wanted!r}")


def pairs(client, _other):
    for number in range(20):
        client.put(f"p/{number:02}", str(number))
    value, meta = client.get("p/07")
    require("get", (value, meta.key, meta.version), (b"7", b"p/07", 1))
    require("missing", client.get("none"), (None, None))
    require("prefix", [value for value, _ in client.get_prefix("p/")], [str(n).encode() for n in range(20)])
    descending = [meta.key for _, meta in client.get_prefix("p/", sort_order="descend", sort_target="key")]
    require("descending", descending, [f"p/{n:02}".encode() for n in reversed(range(20))])
    require("replaced", client.replace("p/07", "7", "seven"), True)
    require("not replaced", client.replace("p/07", "7", "eight"), False)
    require("deleted", client.delete("p/00", prev_kv=True, return_response=True).prev_kvs[0].value, b"0")
    require("all deleted", client.delete_prefix("p/").deleted, 19)
    large = bytes(range(256)) * 4000
    client.put("large", large)
    require("large", client.get("large")[0], large)


def transactions(client, _other):
    succeeded, answers = client.transaction(
        compare=[client.transactions.version("t") == 0],
        success=[client.transactions.put("t", "1"), client.transactions.get("t")],
        failure=[],
    )
    require("first", (succeeded, answers[1][0][0]), (True, b"1"))
    succeeded, answers = client.transaction(
        compare=[client.transactions.value("t") == "2", client.transactions.create("t") > 0],
        success=[],
        failure=[client.transactions.delete("t")],
    )
    require("second", (succeeded, client.get("t")[0]), (False, None))


def watches(client, other):
    events, cancel = client.watch_prefix("w/", prev_kv=True)
    for number in range(10):
        other.put("w/a", str(number))
    other.delete("w/a")
    seen = [next(events) for _ in range(11)]
    cancel()
    require("values", [event.value for event in seen], [str(n).encode() for n in range(10)] + [b""])
    require("before", [event.prev_value for event in seen], [b""] + [str(n).encode() for n in range(10)])
    require("end", type(seen[-1]).__name__, "DeleteEvent")
    # From the past, by a callback.
    told, enough = [], threading.Event()

    def callback(response):
        told.extend(response.events)
        if len(told) == 11:
            enough.set()

    watch = client.add_watch_callback("w/a", callback, start_revision=seen[0].mod_revision)
    require("in time", enough.wait(LIMIT_SECONDS), True)
    client.cancel_watch(watch)
    # From what is compacted.
    client.compact(seen[5].mod_revision)
    old, _ = client.watch("w/a", start_revision=seen[0].mod_revision)
    try:
        next(old)
        raise AssertionError("a compacted revision is watched")
    except exceptions.RevisionCompactedError as error:
        require("compacted at", error.compacted_revision, seen[5].mod_revision)


def leases(client, _other):
    lease = client.lease(100)
    client.put("l", "v", lease=lease)
    require("refreshed", lease.refresh()[0].TTL, 100)
    require("granted", (lease.granted_ttl, lease.keys), (100, [b"l"]))
    lease.revoke()
    require("revoked", client.get("l")[0], None)


def locks(client, other):
    held, wanted = client.lock("job", ttl=60), other.lock("job", ttl=60)
    require("acquired", held.acquire(), True)
    require("not acquired", wanted.acquire(timeout=0), False)
    require("held", (held.is_acquired(), wanted.is_acquired()), (True, False))
    require("released", held.release(), True)
    with wanted:
        require("passed on", wanted.is_acquired(), True)


def maintenance(client, _other):
    status = client.status()
    require("leader", status.leader.name, "default")
    require("members", [member.name for member in client.members], ["default"])
    saved = io.BytesIO()
    client.snapshot(saved)
    # Whole sectors, and the digest behind them.
    require("snapshot", len(saved.getvalue()) % 512, 32)
    client.defragment()
    require("alarms", list(client.list_alarms()), [])
    require("hash", client.hash() == client.hash(), True)


if __name__ == "__main__":
    main(*sys.argv[1:])
