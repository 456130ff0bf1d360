"""bench/race.py - what the benches beside peers have in common: tools measured in turns, their medians, the table of what must hold."""
import json, statistics, sys


def say(what): print(what, file=sys.stderr, flush=True)


def race(cases, names, measure, runs, out):
    """{(case, tool): {figure: median}} of `runs` rounds over (case, tools) pairs, a case being a tuple of what `names` says. measure(case, tool) gives figures and
    why there are none; a tool that fails is left out from then on. Every measurement is a line of OUT/runs.jsonl."""
    results, gone = {}, set()
    with open(f'{out}/runs.jsonl', 'w') as log:
        for k in range(runs):
            for case, tools in cases:
                for tool in tools:
                    if (case, tool) in gone: continue
                    r, why = measure(case, tool)
                    if not r:
                        gone.add((case, tool))
                        say(f'skip {tool} {" ".join(str(x) for x in case if x)}: {why[:200]}')
                        continue
                    results.setdefault((case, tool), []).append(r)
                    log.write(json.dumps(dict(run=k, **dict(zip(names, case)), tool=tool, **r)) + '\n')
                    log.flush()
            say(f'run {k + 1} of {runs} is done')
    return {k: {m: statistics.median(r[m] for r in v) for m in v[0] if not isinstance(v[0][m], dict)} for k, v in results.items()}


def print_musts(rows, width):
    print(f'\n{"must":<{width}} {"dpipe":>9} {"ratio":>7} {"must":>6}        beside')
    for r in rows: print(f'{r["what"]:<{width}} {r["dpipe"]:>9} {r["ratio"]:>7} {r["must"]:>6}  {"holds" if r["holds"] else "FAILS"}  {r["beside"]}')
