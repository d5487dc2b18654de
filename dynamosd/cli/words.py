# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's records in words: what happened, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamosd import phrases
from dynamosd.policy.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamosd.records import Record

    Words = Callable[[Record], str]

_KNOWN = frozenset({"time", "time_seconds", "kind", "subsystem", "policy", "repeated", "since"})

_BY = {
    "manual": "by hand",
    "exit": "when the daemon left",
    "tripwire": "by the tripwire",
    "lease": "for the lost lease",
    "pin": "for the pin",
}


def say(record: Record) -> str:
    """Give one line of plain text; whatever the record holds, a terminal does not stumble."""
    try:
        text = KINDS.get(str(record.get("kind")), _other)(record)
    except (KeyError, TypeError, ValueError, AttributeError):
        # Of another version, or not the daemon's: what it holds is still told.
        text = _other(record)
    if record.get("repeated"):
        times = "once more" if record["repeated"] == 1 else f"{record['repeated']} more times"
        text += f" ({times} since {_moment(record.get('since'))})"
    return plain(text)


def plain(text: str) -> str:
    """Give text without what could move a terminal's cursor."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def because(reason: str | None) -> str:
    """Add a reason, if there is one."""
    return f": {reason}" if reason else ""


def trigger_of(record: Record) -> str:
    """Say by whom a switch was made, or tried."""
    trigger = record["trigger"]
    if trigger == "advice":
        return f"advice {record['advice']} accepted by {_person(record)}"
    policy, rule = record.get("policy"), record.get("rule")
    if trigger == "policy":
        return f"policy {policy}, rule {rule}" if rule else f"policy {policy}"
    return _BY.get(trigger, str(trigger))


def _moment(time: object) -> str:
    """Give a time without its fraction."""
    text = str(time)
    return f"{text[:19]}Z" if text.endswith("Z") else text


def _person(record: Record) -> str:
    return phrases.person(record["uid"], record.get("login"))


def _until(record: Record) -> str:
    return f" until {_moment(record['until'])}" if record.get("until") else ""


def _arrow(record: Record) -> str:
    return f"{record['from']} -> {record['to']}"


def _switch(record: Record) -> str:
    part = " in part" if record.get("partial") else ""
    said = f"{_arrow(record)}{part} ({trigger_of(record)})"
    if record["result"] == "ok":
        return said + because(record.get("reason"))
    return f"{said} {record['result']}{because(record.get('error'))}"


def _decision(record: Record) -> str:
    name = f"policy {record['policy']} ({record['mode']})"
    target, current = record["target"], record.get("current")
    phase, suppressed = record.get("phase"), record.get("suppressed")
    wants = f"wants {current} -> {target}" if current not in {None, target} else f"wants {target}"
    held = f", no switch ({suppressed})" if suppressed else ""
    return f"{name} is {phase}, {wants}{held}{because(record.get('reason'))}"


def _parameter(record: Record) -> str:
    before = "" if record["from"] is None else f" (it was {record['from'] or 'empty'})"
    what = f"{record['edition']} {record['parameter']}={record['to']}"
    return f"policy {record['policy']}: {what}{before}"


def _lease(record: Record) -> str:
    match record["result"]:
        case "held":
            action = record["action"]
            what = f"{record['baseline']} then" if action == "baseline" else "nothing is done then"
            how = "taken over" if record.get("adopted") else "taken"
            grace = format_duration(record["grace_seconds"])
            return f"lease {how}; if the daemon is lost: {grace} of grace, {what}"
        case "lost":
            return "lease lost: it was not renewed in time"
        case "released":
            return "lease given back"
        case "unknown":
            return f"the module does not know leases{because(record.get('reason'))}"
    return _other(record)


def _request(record: Record) -> str:
    about = ("policy", "subsystem", "edition", "id")
    names = [str(record[key]) for key in about if record.get(key)]
    what = " ".join([str(record.get("command") or "something"), *names])
    who = f", asked by {_person(record)}, pid {record['pid']}" if "uid" in record else ""
    return f"{what}{who}: {record['result']}{because(record.get('error'))}"


def _advice(record: Record) -> str:
    said = f"advice {record['id']} of policy {record['policy']}, {_arrow(record)}"
    said += f": {record['result']}"
    if record.get("uid") is not None:
        said += f" (asked by {_person(record)})"
    return said + because(record.get("error") or record.get("reason"))


def _mute(record: Record) -> str:
    said = f"advice {record['id']} of policy {record['policy']} is "
    said += f"muted{_until(record)}" if record["kind"] == "mute" else "no longer muted"
    return said if record.get("uid") is None else f"{said}, by {_person(record)}"


def _pause(record: Record) -> str:
    about = phrases.scope(record["policy"], record["subsystem"])
    return f"{about} paused{_until(record)} by {_person(record)}{because(record.get('reason'))}"


def _resume(record: Record) -> str:
    about = phrases.scope(record["policy"], record["subsystem"])
    over = record.get("uid") is None
    why = "its time is over" if over else f"ended by {_person(record)}"
    return f"{about} no longer paused: {why}"


def _pin(record: Record) -> str:
    until = _moment(record["until"]) if record["until"] else None
    who = phrases.pinned(record["uid"], record.get("login"), until, record["reason"])
    return f"{record['edition']} {who}"


def _unpin(record: Record) -> str:
    return f"{record['edition']} no longer pinned: {record['reason']}"


def _guardrail(record: Record) -> str:
    part = f" ({record['scope']})" if record.get("scope") else ""
    said = f"guardrail {record['guardrail']} of policy {record['policy']}"
    return f"{said}, {record['edition']}{part}: {record['verdict']}{because(record['reason'])}"


def _quarantine(record: Record) -> str:
    edition = record["edition"]
    if record["result"] == "begun":
        said = f"{edition} is in quarantine{_until(record)} (no. {record['count']})"
        if not record["guardrail"]:
            return f"{said}: {record['reason']}"
        return f"{said}: guardrail {record['guardrail']} of policy {record['policy']}"
    over = record.get("uid") is None
    why = "its time is over" if over else f"ended by {_person(record)}"
    return f"{edition} is no longer in quarantine: {why}"


def _canary(record: Record) -> str:
    said = f"canary of policy {record['policy']}, {record['edition']}: {record['event']}"
    if record["step"]:
        said += f", step {record['step']} of {record['steps']} ({record['scope']})"
    return said + because(record.get("reason"))


def _start(record: Record) -> str:
    policies = ", ".join(f"{name} ({mode})" for name, mode in record["policies"].items())
    said = f"daemon {record['version']} started, pid {record['pid']}; policies: "
    return said + (policies or "none, it only measures")


def _stop(record: Record) -> str:
    return "daemon left" + ("" if record["clean"] else "; not all is back at its baseline")


def _reload(record: Record) -> str:
    return f"policies read again: {', '.join(record['policies']) or 'none'}"


def _other(record: Record) -> str:
    more = record.keys() - _KNOWN
    return " ".join(f"{key}={record[key]}" for key in record if key in more)


KINDS: dict[str, Words] = {
    "start": _start,
    "stop": _stop,
    "reload": _reload,
    "reload_failed": lambda each: f"not reloaded, the last good policies stay: {each['reason']}",
    "request": _request,
    "pause": _pause,
    "resume": _resume,
    "pin": _pin,
    "unpin": _unpin,
    "advice": _advice,
    "mute": _mute,
    "unmute": _mute,
    "decision": _decision,
    "switch": _switch,
    "guardrail": _guardrail,
    "quarantine": _quarantine,
    "canary": _canary,
    "lease": _lease,
    "completed": lambda each: f"every object has edition {each['edition']}",
    "parameter": _parameter,
    "trouble": lambda each: f"policy {each['policy']}: {each['reason']}",
    "module_gone": lambda each: f"the kernel module is gone{because(each['reason'])}",
    "module_back": lambda each: f"the kernel module is back, version {each['version']}",
    "probe_lost": lambda each: f"probes lost{because(each['reason'])}",
    "probe_attached": lambda _: "probes attached again",
    "budget": lambda each: phrases.budget(each["step"], each["share"], each["limit"]),
}
