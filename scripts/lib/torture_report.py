# SPDX-License-Identifier: Apache-2.0
"""What scripts/torture tells people."""
from failure_report import machine_text


def numbered(counts):
    return ", ".join(f"{n} {what}" for what, n in sorted(counts.items())) or "none"


def show_broken(run):
    for one in run["told"]:
        print(f"\n  BROKEN: {one['client']} > {one['vip']}, on {one['backend']}: {one['why']}; "
              f"{one['age_s']} s old, last right byte {one['good_s']} s before, "
              f"{one['messages']} messages")
        for line in one["explain"]:
            print(f"    {line}")
        print(f"    client: {one['missing']} bytes are missing; {one['tcp']}")
        for line in one["sockets"] or ["none"]:
            print(f"    socket now: {line}")
        print("    what was done and seen from 2 s before that byte on:")
        for line in one["before"][-60:]:
            print(f"      {line}")
    if run["broken"] and not run["told"]:
        reasons = {}
        for one in run["broken"]:
            reasons[one["why"]] = reasons.get(one["why"], 0) + 1
        print(f"  broken, by reason             {numbered(reasons)}")
    elif len(run["broken"]) > len(run["told"]):
        print(f"  and {len(run['broken']) - len(run['told'])} more")


def show_run(run):
    client = run["client"]
    print(f"\n== Seed {run['seed']}, {run['seconds']} s\n")
    print(f"  connections established       {client['established']:,}, at least "
          f"{client['fewest'] or 0:,} open at a time")
    print(f"  messages there and back       {client['messages']:,}, the slowest in "
          f"{client['slowest_s']} s" +
          (f", {client['late']} later than 20 s" if client["late"] else ""))
    print(f"  broken                        {len(run['broken'])}" +
          ("" if run["judged"] else "  (not judged: the route is flipped, and backends are stock)"))
    print(f"  ended before the first byte   {numbered(client['unborn'])}")
    print(f"  changes committed             {run['committed']} of {run['wanted']}: "
          f"{numbered(run['kinds'])}")
    if run["wait_s"]:
        print(f"  from accepted to committed    p50 {run['wait_s']['p50']:.1f} s, p99 "
              f"{run['wait_s']['p99']:.1f} s, max {run['wait_s']['max']:.1f} s")
        for line in run["longest"]:
            print(f"                                {line}")
    print(f"  restarts                      {numbered(run['restarts'])}")
    print(f"  flips of the route            {run['flips']}")
    print(f"  packets on backends           {numbered(run['second_chances'])}")
    if run["flood"]:
        flood = run["flood"]
        share = 100 * flood["new_established"] / max(1, flood["new"])
        print(f"  SYN flood                     {flood['sent']:,} packets, "
              f"{flood['sent'] / max(1, flood['seconds']):,.0f} a second")
        print(f"  new genuine connections       {flood['new']:,}, established {share:.2f} %")
    print("  memory, MB: first, most, last " +
          "; ".join(f"{name} {a >> 10} {b >> 10} {c >> 10}"
                    for name, (a, b, c) in run["memory_kb"].items() if not name.startswith("b")))
    agents = [three for name, three in run["memory_kb"].items() if name.startswith("b")]
    if agents:
        print("                                agents, at most " +
              " ".join(f"{max(a[i] for a in agents) >> 10}" for i in range(3)))
    print(f"  CPU of the client             {client['cpu_s']} s")
    for error in run["errors"]:
        print(f"  WENT WRONG: {error}")
    show_broken(run)


def show(result):
    print(f"\n{result['forwarding']}, {result['nodes']} node{'s' * (result['nodes'] > 1)}, "
          f"{result['connections']:,} connections{', SYN flood' * result['flood']}. "
          f"On {machine_text(result['machine'])}.")
    for run in result["runs"]:
        show_run(run)
    print("\n== Promises\n")
    for promise in result["promises"]:
        print(f"  {'holds' if promise['holds'] else 'DOES NOT HOLD':14} {promise['what']:50} "
              f"{promise['got']:>9,} (at {'least' if promise['at_least'] else 'most'} "
              f"{promise['allowed']:,})")
    print(f"\n{'All held.' if result['ok'] else 'NOT ALL HELD.'} {result['seconds']} s.", flush=True)
