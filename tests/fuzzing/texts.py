"""Damage `run.json` and `events.jsonl`."""

from __future__ import annotations

import json
import random
from pathlib import Path

from fuzzing.values import ODD, change_one
from spherical_motion.vocabulary import EventKind

KEYS = (
    *("time", "kind", "step", "steps", "segments", "param_group", "optimizer", "parameters", "why"),
    *("slices", "groups", "changed", "lr", "weight_decay", "momentum", "reason", "name", "factor"),
)


def info_value(directory: Path, rng: random.Random) -> str:
    """One to three values of `run.json` are others."""
    path = directory / "run.json"
    document = json.loads(path.read_text())
    done = [change_one(document, rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    path.write_bytes(json.dumps(document).encode())
    return "; ".join(done)


def info_count(directory: Path, rng: random.Random) -> str:
    """A count that something is made from is huge."""
    path = directory / "run.json"
    document = json.loads(path.read_text())
    count = rng.choice((10**5, 10**7, 10**9, 2**31, 2**62, 10**25, -1, 0, 1.5, 1e300))
    where = rng.choice(("slices", "cells", "group slices", "plan", "width", "every", "numel"))
    group = document["groups"][0]
    if where == "slices":
        document["slices"][0][0] = count
    elif where == "cells":
        group["cells"][0][0] = count
    elif where == "group slices":
        group["slices"][0][0] = count
    elif where == "width":
        group["slices"][0][1][0][3] = count
    elif where == "plan":
        pairs = [[count, 0.1]]
        plan = {"hp": {"optimizer": "sgd", "lr": 0.1}, "start": rng.choice((0, count)), "lr": pairs}
        document["plan"] = plan | {"weight_decay": pairs, "momentum": pairs}
    else:
        (document if where == "every" else group)[where] = count
    path.write_text(json.dumps(document))
    return f"{count} {where}"


def info_many(directory: Path, rng: random.Random) -> str:
    """Groups or param groups many times, or twice under one name."""
    path = directory / "run.json"
    document = json.loads(path.read_text())
    name = rng.choice(("groups", "param_groups", "slices", "slice_param_group"))
    document[name] = document[name] * rng.choice((2, 1000, 10_000))
    path.write_text(json.dumps(document))
    return f"{len(document[name])} {name}"


def info_text(directory: Path, rng: random.Random) -> str:
    """`run.json` is no JSON, in another encoding, or of another version."""
    path = directory / "run.json"
    text = path.read_text()
    version = rng.choice(
        ('"2"', "0", "3", "-1", "1", "1e400", "99999999999999999999", "true", "2.0")
    )
    forms: dict[str, bytes] = {
        "empty": b"",
        "half": text[: rng.randrange(len(text))].encode(),
        "utf-16": text.encode("utf-16"),
        "utf-8 with a mark": text.encode("utf-8-sig"),
        "latin-1": text.replace("conv", "cönv").encode("latin-1"),
        "random bytes": rng.randbytes(2000),
        "zeros": bytes(4096),
        "deep lists": b"[" * 200_000,
        "deep objects": b'{"a":' * 200_000,
        "a number": b"1" * 10_000,
        "NaN": text.replace("72", "NaN").encode(),
        "a list": f"[{text}]".encode(),
        "twice": (text + text).encode(),
        f"version {version}": text.replace(
            '"schema_version": 2', f'"schema_version": {version}'
        ).encode(),
        "deep setting": text.replace('"SGD"', "[" * 900 + "]" * 900).encode(),
    }
    form = rng.choice(sorted(forms))
    path.write_bytes(forms[form])
    return form


def event_value(directory: Path, rng: random.Random) -> str:
    """A value of an event is another."""
    path = directory / "events.jsonl"
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    event = json.loads(lines[place])
    event.pop("crc", None)  # as older versions wrote it, so that its values are looked at
    done = change_one(event, rng)
    lines[place] = json.dumps(event)
    path.write_text("\n".join(lines) + "\n")
    return f"line {place + 1}: {done}"


def event_added(directory: Path, rng: random.Random) -> str:
    """An event of a known kind with values of unknown types."""
    kind = rng.choice([k.value for k in EventKind])
    event = {"time": "2024-01-01T00:00:00+00:00", "kind": kind, "step": 5}
    for key in rng.sample(KEYS[2:], rng.randrange(1, 6)):
        event[key] = rng.choice(ODD)
    with (directory / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")
    return json.dumps(event)[:100]


def event_lines(directory: Path, rng: random.Random) -> str:
    """Lines that are torn, foreign, or not even text."""
    path = directory / "events.jsonl"
    lines = path.read_bytes().split(b"\n")
    foreign = (
        *(b"", b"null", b"3", b"[]", b"{}", b'{"kind": "closed"}', b"\xff\xfe\x00", b"Traceback"),
        *(b"[" * 100_000, b'{"kind": 3, "time": 4}', bytes(100), b'{"a": NaN}', b"1" * 9_000),
    )
    how = rng.randrange(4)
    if how == 0:
        place = rng.randrange(len(lines))
        lines[place] = lines[place][: rng.randrange(len(lines[place]) + 1)]
    elif how == 1:
        for _ in range(rng.choice((1, 5, 2000))):
            lines.insert(rng.randrange(len(lines)), rng.choice(foreign))
    elif how == 2:
        rng.shuffle(lines)
    else:
        lines[-1] = rng.choice(foreign)
    path.write_bytes(b"\n".join(lines))
    return f"way {how}"
