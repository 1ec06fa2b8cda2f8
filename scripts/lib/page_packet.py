# SPDX-License-Identifier: Apache-2.0
"""The part of docs/performance.md that is about packets: sections `packet` and `stages`."""
from failure_report import machine_text
import plot

STATES = {("quiet", 0): "quiet pool", ("quiet", 1): "quiet pool, all SYN",
          ("learn", 0): "entry for every flow",
          ("drain", 1): "table full, 9 of 10 backends drain, all SYN",
          ("churn", 0): "1 % of the slots change, 10 times a second"}
# By state and flows: at most so many times 5tswap.
ASKED = {"quiet": {1000: 1.6, 1_000_000: 1.8, 10_000_000: 2.0},
         "learn": {1000: 2.0, 1_000_000: 3.0, 10_000_000: 4.0}}
FULL_ASKED, KIND_ASKED, STATE_ASKED, CLIFF_ASKED = 3, 1.25, 3, 5
PLAIN = {"family": 4, "forwarding": "ipip", "backends": 100, "services": 1}


def spread(figure, digits=0):
    return (f"{figure['median']:.{digits}f} "
            f"({figure['min']:.{digits}f}..{figure['max']:.{digits}f})")


def triple(figure):
    return figure["median"], figure["min"], figure["max"]


def taken_on(result):
    return f"On {machine_text(result['machine'])}."


def packets(result):
    modes = result["modes"]
    out = [taken_on(result) + f" Median (least..most) of {result['rounds']} rounds of "
           f"{result['seconds']} s.\n",
           "| flows | | method | backends | services | state | " + ", ns | ".join(modes)
           + ", ns | Guideway, ns | x `5tswap` | net of `io` | entries |",
           "|--:|---|---|--:|--:|---|" + "--:|" * (len(modes) + 4)]
    for row in result["packets"]:
        one = row["scenario"]
        cells = " | ".join(spread(row["ns"][name]) for name in (*modes, "guideway"))
        out.append(f"| {one['flows']:,} | v{one['family']} | `{one['forwarding']}` | "
                   f"{one['backends']:,} | {one['services']:,} | "
                   f"{STATES[one['release'], one['syn']]} | {cells} | {spread(row['ratio'], 2)} | "
                   f"{row['ratio_net']:.1f} | {row['entries']:,} |")
    return "\n".join(out)


def plain(one, release):
    return one["release"] == release and not one["syn"] and \
        all(one[key] == value for key, value in PLAIN.items())


def claims(result):
    """[(what, got, most, its spread)]"""
    out, rows = [], result["packets"]
    base = {r["scenario"]["flows"]: r for r in rows if plain(r["scenario"], "quiet")}
    for release, asked in ASKED.items():
        for row in rows:
            one = row["scenario"]
            if plain(one, release) and one["flows"] in asked:
                out.append((f"{STATES[release, 0]}, {one['flows']:,} flows, x `5tswap`",
                            row["ratio"], asked[one["flows"]]))
    for row in rows:
        one = row["scenario"]
        if one["release"] == "drain":
            out.append((f"all new, table of {one['flow_table']:,} full, x `5tswap`", row["ratio"],
                        FULL_ASKED))
        if one["release"] == "quiet" and (one["family"], one["forwarding"]) in \
                ((4, "gue"), (6, "ipip"), (6, "gue")) and one["flows"] in base:
            what = f"`{one['forwarding']}` v{one['family']}, {one['flows']:,} flows, x "
            out.append((what + "`5tswap`", row["ratio"],
                        KIND_ASKED * ASKED["quiet"][one["flows"]]))
            ratio = row["ratio"]["median"] / base[one["flows"]]["ratio"]["median"]
            out.append((what + "`ipip` v4's of this run", {"median": ratio}, KIND_ASKED))
    cost = [r["ns"]["guideway"]["median"] for r in rows]
    for name, release in (("quiet pool", "quiet"), ("entry for every flow", "learn")):
        own = [r["ns"]["guideway"]["median"] for r in rows if plain(r["scenario"], release)]
        if own:
            out.append((f"dearest by cheapest, {name}", {"median": max(own) / min(own)}, STATE_ASKED))
    out.append(("dearest by cheapest of all", {"median": max(cost) / min(cost)}, CLIFF_ASKED))
    return out


def verdicts(result):
    out = ["| | measured | at most | |", "|---|--:|--:|---|"]
    for what, got, most in claims(result):
        text = spread(got, 2) if "min" in got else f"{got['median']:.2f}"
        out.append(f"| {what} | {text} | {most} | "
                   f"{'holds' if got['median'] <= most else '**does not hold**'} |")
    return "\n".join(out)


def packet_plot(result):
    rows, flows = {}, set()
    for row in result["packets"]:
        one = row["scenario"]
        for release, name in (("quiet", "quiet pool"), ("learn", "entry for every flow")):
            if plain(one, release):
                rows.setdefault(name, {})[one["flows"]] = triple(row["ns"]["guideway"])
        if plain(one, "quiet"):
            for mode, name in (("5tswap", "testpmd 5tswap"), ("io", "testpmd io")):
                rows.setdefault(name, {})[one["flows"]] = triple(row["ns"][mode])
        flows.add(one["flows"])
    labels = {n: f"{n:,}" for n in sorted(flows)}
    return plot.lines("One core, 64 B, IPv4, ipip: CPU time per packet, by flows", "ns",
                      list(labels.values()),
                      {name: {labels[n]: f for n, f in row.items()} for name, row in rows.items()})


def stages(result):
    out = [taken_on(result) + "\n", "| stage | ns | instructions |", "|---|--:|--:|"]
    for row in result["stages"]:
        count = row["instructions"]
        out.append(f"| {row['name'].replace('forward()', '`forward()`')} | {spread(row['ns'], 1)} | "
                   f"{'' if count is None else f'{count:.0f}'} |")
    return "\n".join(out)


def workers(result):
    if not result.get("workers"):
        return "Not in this run."
    out = ["1 M flows. Two workers of one process on two cores at once; and, for what the machine itself "
           "takes of two cores that are busy at once, two processes of one worker each.\n",
           "| state | one worker, ns | two workers, ns | packets beside one worker's | two processes, "
           "ns | packets beside one worker's |", "|---|--:|--:|--:|--:|--:|"]
    for release, ways in result["workers"].items():
        two, apart = ways["two workers"], ways["two processes"]
        out.append(f"| {STATES[release, 0]} | {spread(ways['one worker'])} | {spread(two)} | "
                   f"{two['times_one']:.2f} x | {spread(apart)} | {apart['times_one']:.2f} x |")
    return "\n".join(out)


BLOCKS = {"packets": ("packet", packets), "packets_asked": ("packet", verdicts),
          "workers": ("packet", workers),
          "stages": ("stages", stages)}
PLOTS = {"packets": ("packet", packet_plot)}
