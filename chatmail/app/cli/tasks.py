"""`tasks` and `expire`: maintenance by hand."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from chatmail.app.cli.context import Context
from chatmail.app.cli.output import Reply, table

Report = Mapping[str, Any]


def list_tasks(context: Context, options: Namespace) -> Reply:
    """Show the names of all tasks."""
    names = context.call("task.list")["tasks"]
    return Reply(lines=names, data={"tasks": names})


def run_task(context: Context, options: Namespace) -> Reply:
    """Run one task."""
    params: dict[str, object] = {"task": options.task, "dry_run": options.dry_run}
    if options.retention is not None:
        params["retention"] = options.retention
    report = context.call("task.run", params)
    return Reply(lines=_lines([report]), data=report)


def run_all_tasks(context: Context, options: Namespace) -> Reply:
    """Run every task."""
    result = context.call("task.runAll", {"dry_run": options.dry_run})
    return Reply(lines=_lines(result["reports"]), data=result)


def expire(context: Context, options: Namespace) -> Reply:
    """Say what retention would remove, or remove it."""
    result = context.call("task.expire", {"dry_run": not options.remove})
    lines = _lines(result["reports"])
    if not options.remove:
        lines.append("nothing was removed (--remove does)")
    return Reply(lines=lines, data=result)


def _lines(reports: Sequence[Report]) -> list[str]:
    if not reports:
        return ["there was nothing to do"]
    rows = [("TASK", "MESSAGES", "ACCOUNTS", "")]
    rows += [
        (
            str(one["task"]),
            str(one["deleted_messages"]),
            str(one["deleted_accounts"]),
            _remark(one),
        )
        for one in reports
    ]
    return table(rows)


def _remark(report: Report) -> str:
    if report["skipped"]:
        return f"skipped: {report['skipped']}"
    return "would be removed" if report["dry_run"] else f"{report['duration_s']:.1f} s"
