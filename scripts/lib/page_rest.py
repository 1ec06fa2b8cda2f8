# SPDX-License-Identifier: Apache-2.0
"""The part of docs/performance.md that is not about packets."""
from page_packet import taken_on, triple
import plot

CHANGES = {"first": "a new pool", "failure": "one backend down, or up again",
           "weight": "weight of one backend"}
LOADS = {"kept": "64 connections, kept", "one": "1 connection, kept",
         "new": "64 connections, one request each"}


def tables(result):
    out = [taken_on(result) + "\n",
           "| slots | backends | owners | with stand-ins | the paper's | root after one failure | "
           "others moved when one leaves: own, paper | when one is halved | max / min share: own, "
           "paper |", "|" + "--:|" * 9]
    for t in result["tables"]:
        out.append(f"| {t['slots']:,} | {t['backends']:,} | {t['owners_ms']:.2f} ms | "
                   f"{t['stand_ins_ms']:.2f} ms | {t['paper_ms']:.2f} ms | {t['root_ms']:.2f} ms | "
                   f"{100 * t['moved_leave']:.2f} %, {100 * t['paper_moved_leave']:.2f} % | "
                   f"{100 * t['moved_weight']:.2f} % | {t['max_by_min']:.3f}, "
                   f"{t['paper_max_by_min']:.3f} |")
    return "\n".join(out)


def asked(rows):
    out = ["| | measured | at most | |", "|---|--:|--:|---|"]
    return "\n".join(out + [f"| {what} | {got:.2f} | {most} | "
                            f"{'holds' if got <= most else '**does not hold**'} |"
                            for what, got, most in rows])


def published(result):
    out = ["| backends | change | tables made | root made | adopted by the dataplane | in all | at "
           "most | tables sent |", "|--:|---|--:|--:|--:|--:|--:|--:|"]
    for row in result["published"]:
        for key, text in CHANGES.items():
            f = row[key]
            out.append(f"| {row['backends']:,} | {text} | {f['tables_ms']:.2f} ms | "
                       f"{f['root_ms']:.2f} ms | {f['adopted_ms']:.2f} ms | {f['all_ms']:.2f} ms | "
                       f"{f['most_ms']:.2f} ms | {f['tables_sent']} |")
    one, many = (result["published"][1][k] for k in ("services_100_one_pool",
                                                     "services_100_pools_100"))
    return "\n".join(out) + (
        f"\n\n100 services of 100 backends on one pool take {one['tables']} table of "
        f"{one['table_bytes'] / 1024:,.0f} KiB and a root of {one['root_bytes'] / 1024:,.0f} KiB; on "
        f"100 pools {many['tables']} tables of {many['table_bytes'] / 1024:,.0f} KiB together and a "
        f"root of {many['root_bytes'] / 1024:,.0f} KiB.\n\n" + asked(result["asked"]))


def table_plot(result):
    rows = [t for t in result["tables"] if t["slots"] == 65537]
    groups = {f"{t['backends']:,} backends": [(t[k], t[k], t[k]) for k in
                                              ("owners_ms", "stand_ins_ms", "paper_ms", "root_ms")]
              for t in rows}
    return plot.bars("Time to make a table of 65,537 slots", "ms", groups,
                     ["owners", "with stand-ins", "the Maglev paper's", "root after a failure"])


def http(result):
    out = [taken_on(result) + f" Medians (least to most) of {result['rounds']} rounds of "
           f"{result['seconds']} s.\n",
           "| | way | requests/s | of the direct way | p50 | p99 |", "|---|---|--:|--:|--:|--:|"]
    for load, ways in result["loads"].items():
        title = LOADS[load]
        for way, f in ways.items():
            rate, share = f["requests_s"], f["of_direct"]
            out.append(f"| {title} | {way} | {rate['median']:,.0f} ({rate['min']:,.0f} to "
                       f"{rate['max']:,.0f}) | {share['median']:.2f} ({share['min']:.2f} to "
                       f"{share['max']:.2f}) | {f['p50_us']['median']:,.0f} us | "
                       f"{f['p99_us']['median']:,.0f} us |")
            title = ""
    out += ["", "| | measured | |", "|---|--:|---|"]
    out += [f"| {what} | {got:.2f} | {'holds' if holds else '**does not hold**'} |"
            for what, got, holds in result["asked"]]
    return "\n".join(out)


def added(result):
    """Latency beside the direct way's, of the medians."""
    out = ["| added to the direct way | " + " | ".join(f"{LOADS[load]}: p50, p99" for load in
                                                       ("kept", "one")) + " |", "|---|--:|--:|"]
    for way in result["loads"]["kept"]:
        if way == "direct":
            continue
        cells = []
        for load in ("kept", "one"):
            own, direct = result["loads"][load][way], result["loads"][load]["direct"]
            cells.append(", ".join(f"{own[k]['median'] - direct[k]['median']:,.0f} us"
                                   for k in ("p50_us", "p99_us")))
        out.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def http_plot(result):
    ways = list(result["loads"]["kept"])
    groups = {{"kept": "64 kept", "one": "1 kept", "new": "64, one request each"}[load]:
              [triple(figures[way]["requests_s"]) for way in ways]
              for load, figures in result["loads"].items()}
    return plot.bars("wrk to one backend, by way of each balancer", "requests/s", groups, ways)


def footprint(result):
    out = [taken_on(result) + "\n", "| memory of the dataplane | each | seen from | to |",
           "|---|--:|--:|--:|"]
    for what, f in result["memory"].items():
        out.append(f"| {what.replace('flow_table', 'flows')} | {f['each_bytes']:.0f} bytes | "
                   f"{f['fewer']:,}: {f['fewer_bytes'] / 2**20:.1f} MiB | "
                   f"{f['more']:,}: {f['more_bytes'] / 2**20:.1f} MiB |")
    out += ["", "| one backend, no traffic | memory | CPU |", "|---|--:|--:|"]
    out += [f"| `guideway-{what}` | {f['rss_mb']:.0f} MiB | {f['idle_cpu_percent']:.1f} % of a core |"
            for what, f in result["daemons"].items()]
    first = result["first_packet"]
    pauses = f"{len(first['pauses_s'])} pauses of {min(first['pauses_s'])} to " \
             f"{max(first['pauses_s'])} s"
    out += ["", f"The round trip of an echo to a VIP, which the worker answers: "
            f"{first['awake_ms']:.2f} ms with the worker awake, {min(first['first_ms']):.2f} to "
            f"{max(first['first_ms']):.2f} ms after {pauses}.", "", asked(result["asked"])]
    return "\n".join(out)


def size(result):
    out = [taken_on(result) + "\n", "| from request to adopted generation | n | p50 | p99 | max | tables "
           "sent |", "|---|--:|--:|--:|--:|--:|"]
    for what, f in result["changes"].items():
        out.append(f"| {what} | {f['changes']} | {f['p50_ms']:.1f} ms | {f['p99_ms']:.1f} ms | "
                   f"{f['max_ms']:.1f} ms | {f['tables_sent']} |")
    out += ["", f"| {result['services']:,} services, {result['pools']} pools, "
            f"{result['backends']:,} backends | memory | peak | idle CPU |", "|---|--:|--:|--:|"]
    out += [f"| `guideway-{what}` | {f['rss_mb']:.0f} MiB | {f['peak_mb']:.0f} MiB | "
            f"{f['idle_cpu_percent']:.1f} % of a core |" for what, f in result["daemons"].items()]
    return "\n".join(out)


def cluster(result):
    out = [taken_on(result) + "\n", "| ms | p50 | p99 | max |", "|---|--:|--:|--:|"]
    for key, text in (("accepted_ms", "from request to accepted"),
                      ("everywhere_ms", "from accepted to adopted by all nodes")):
        f = result[key]
        out.append(f"| {text} | {f['p50']:.1f} | {f['p99']:.1f} | {f['max']:.1f} |")
    refused = f"{result['refused']} refused and asked for again, {result.get('given_up', 0)} given up"
    return "\n".join(out + ["", f"{result['changes'] / result['seconds']:.0f} changes a second; "
                            f"{result['twice']} backends twice, {refused}."])


BLOCKS = {"tables": ("tables", tables), "published": ("tables", published), "http": ("http", http),
          "added": ("http", added), "footprint": ("footprint", footprint), "size": ("size", size),
          "cluster": ("cluster", cluster)}
PLOTS = {"tables": ("tables", table_plot), "http": ("http", http_plot)}
