# SPDX-License-Identifier: Apache-2.0
"""Tables of scripts/failures for people, and the machine that they were made on."""
import os
import pathlib
import platform
import re
import subprocess

REPO = pathlib.Path(__file__).resolve().parents[2]


def percentiles(values):
    """p50, p99 and max of times in ms: the smallest that so many percent do not exceed."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {"p50": round(ordered[min(last, (len(ordered) + 1) // 2 - 1)], 2),
            "p99": round(ordered[min(last, -(-99 * len(ordered) // 100) - 1)], 2),
            "max": round(ordered[last], 2)}


def commit():
    """What was measured: the checkout's commit, "-dirty" with changes that are not committed."""
    git = subprocess.run(["git", "-c", f"safe.directory={REPO}", "-C", str(REPO), "describe", "--always",
                          "--dirty", "--abbrev=10", "--exclude=*"], capture_output=True, text=True)
    return git.stdout.strip() if git.returncode == 0 else "unknown"


def machine():
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.M)
    memory = int(re.search(r"^MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(),
                           re.M).group(1))
    return {"commit": commit(), "cores": os.cpu_count(),
            "model": model.group(1) if model else platform.machine(),
            "virtual": "hypervisor" in cpuinfo, "kernel": platform.release().split("-")[0],
            "memory_gb": round(memory / 2**20, 1), "load_before": round(os.getloadavg()[0], 2)}


def machine_text(host):
    return (f"{host['cores']} cores ({host['model']}{', virtual' if host['virtual'] else ''}), "
            f"{host['memory_gb']} GB, Linux {host['kernel']}; load before: {host['load_before']}; "
            f"commit {host['commit']}")


def three(figures):
    if figures is None:
        return f"{'-':>23}"
    return "".join(f"{figures[k]:8.1f}" if figures[k] < 10000 else f"{figures[k]:8.0f}"
                   for k in ("p50", "p99", "max"))[1:]


def time_rows(results):
    for result in results.values():
        if "times" in result:
            yield result["title"], result["times"]
        for name, row in result.get("rows", {}).items():
            yield f"{result['title']}, {name}", row


def show_times(results):
    rows = list(time_rows(results))
    if not rows:
        return
    groups = ("cause to verdict", "verdict to adopted", "cause to adopted", "recovery")
    print("\n== Times in ms: p50, p99, max\n")
    print(f"  {'':44} {'n':>4} " + " ".join(f"{g:>24}" for g in groups))
    for title, row in rows:
        print(f"  {title:44} {row['n']:4} " + " ".join(
            f" {three(row[k])}" for k in ("verdict", "adopted", "total", "recovery")))


def show_damage(results):
    rows = [(r["title"], r["damage"]) for r in results.values() if "damage" in r]
    if not rows:
        return
    print("\n== Damage, one failure of one backend and its recovery, under load\n")
    print(f"  {'':34} {'requests, each a connection':^42}   {'500 held connections':^24}   "
          f"{'wrk':^16}   {'falls in':>8}")
    print(f"  {'':34} {'sent':>7} {'failed':>7} {'slow':>6} {'of others':>10} {'later':>7}   "
          f"{'of dead':>12} {'of others':>11}   {'sent':>8} {'failed':>7}   {'a minute':>8}")
    for title, d in rows:
        dead = f"{d['broken_of_dead']} of {d['held_of_dead']}"
        others = f"{d['broken_of_others']} of {d['held'] - d['held_of_dead']}"
        print(f"  {title:34} {d['requests']:7} {d['failed']:7} {d['slow']:6} {d['of_others']:10} "
              f"{d['after_adopted']:7}   {dead:>12} {others:>11}   {d['wrk_requests']:8} "
              f"{d['wrk_failed']:7}   {d['downs_in_a_minute']:8}")
    print("\n  slow: over 500 ms. of others: failed or slow, but another backend's. later: began "
          "after the\n  dataplane had adopted the verdict (or failed in the recovery). "
          "held connections: broken or silent.")


def show_figures(results):
    for result in results.values():
        if "figures" not in result:
            continue
        print(f"\n== {result['title']}\n")
        for what, value in result["figures"].items():
            print(f"  {what:52} {value:>12,}")
        for example in result["examples"]:
            print(f"  {example}")


def examples_of(kind):
    """What broke a promise, and who counted losses meanwhile: the dataplane's verdicts, the lab's
    interfaces, the backends' listen queues."""
    damage = kind.get("damage", {})
    examples = kind.get("times", {}).get("strangers", [])[:5] + damage.get("examples", [])
    lost = ", ".join(f"{what} {count}" for what, count in damage.get("lost", {}).items())
    return f"{examples}; lost meanwhile: {lost or 'nothing that was counted'}"


def show(result):
    print(f"\nOn {machine_text(result['machine'])}.")
    show_times(result["kinds"])
    show_damage(result["kinds"])
    show_figures(result["kinds"])
    print("\n== Promises\n")
    for promise in result["promises"]:
        print(f"  {'holds' if promise['holds'] else 'DOES NOT HOLD':14} {promise['what']:60} "
              f"{promise['got']:>9,} (at most {promise['allowed']:,})")
    for name, kind in result["kinds"].items():
        damage = kind.get("damage", {})
        if kind.get("times", {}).get("strangers") or damage.get("examples") or \
                damage.get("broken_of_others"):
            print(f"  {name}: {examples_of(kind)}")
    for line in result["again"]:
        print(f"  {line}")
    print(f"\n{'All held.' if result['ok'] else 'NOT ALL HELD.'} {result['seconds']} s.", flush=True)
