#!/usr/bin/env python3
"""bench/bench_trainer.py - a training step of dpipe beside PyTorch's on the same processor, in turns, and whether what must hold does.

usage: bench_trainer.py --out DIR [--runs N] [--steps N] [--shapes 10m 124m] [--dtypes fp32 bf16] [--long]
Writes OUT/runs.jsonl (every run) and OUT/trainer.json (medians, ratios, what holds), prints tables. `make bench-trainer` gives it all it needs.

A step is forward, backward, clipping by the global norm and AdamW, of GPT-2 with random tokens: 10m is 6 layers of 384, 6 heads, 8,192 tokens; 124m 12 of
768, 12 heads, 50,257 tokens; 4 sequences of 256. Every measurement is a process of its own, pinned to one processor (two for two threads): a step to warm up, then
the median of `steps`. Tools take turns, figures are medians of the runs, rates are per CPU-second of the process but for two threads, which are compared by the clock.
PyTorch: what anyone would write, with its fused attention and its fused AdamW. On AMD its MKL takes a slow path; "tuned" preloads a library that tells MKL that the
processor will do, which is the fair comparison there. bf16 is torch.autocast; "compiled" is torch.compile, its compiling not counted.
"""
import argparse, json, os, statistics, subprocess, sys, time

from race import print_musts, race, say

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
DPIPE = os.path.join(os.environ.get('BUILD', os.path.join(ROOT, 'build/release')), 'dpipe')
SHAPES = {'10m': (6, 384, 6, 8192), '124m': (12, 768, 12, 50257)} # layers, width, heads, vocabulary
BATCH, SEQ = 4, 256
MUSTS = { # (dtype, peer): ratio that must hold, by shape
    ('fp32', 'torch tuned'): {'10m': 1.15, '124m': 1.15}, ('fp32', 'torch'): {'10m': 2.2, '124m': 2.2},
    ('bf16', 'torch'): {'10m': 1.4, '124m': 1.2}, ('bf16', 'torch compiled'): {'10m': 1.28},
}


# --- PyTorch, in a process of its own ---

def gpt2(layers, width, heads, vocab):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.c_fc, self.c_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            b, t, c = x.shape
            q, k, v = (y.view(b, t, heads, c // heads).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(width, 2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, c))
            return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate='tanh'))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(SEQ, width)
            self.h, self.ln_f = nn.ModuleList(Block() for _ in range(layers)), nn.LayerNorm(width)
            for p in self.parameters():
                if p.dim() > 1: nn.init.normal_(p, std=0.02)

        def forward(self, ids, targets):
            x = self.wte(ids) + self.wpe(torch.arange(SEQ))
            for h in self.h: x = h(x)
            return F.cross_entropy(F.linear(self.ln_f(x), self.wte.weight).view(-1, vocab), targets.reshape(-1))

    return Model()


def torch_steps(shape, dtype, compiled, threads, steps):
    import torch
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = gpt2(*SHAPES[shape])
    ids = torch.randint(SHAPES[shape][3], (BATCH, SEQ + 1))
    decayed, plain = [p for p in model.parameters() if p.dim() > 1], [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=0.1), dict(params=plain, weight_decay=0.0)], lr=1e-3, betas=(0.9, 0.95), fused=True)
    loss_of = torch.compile(model) if compiled else model
    cpu, wall = [], []
    for _ in range(steps + 1):
        c, w = time.process_time(), time.perf_counter()
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == 'bf16'): loss = loss_of(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = loss.item()
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
    import resource
    n = BATCH * SEQ
    return dict(cpu=n / statistics.median(cpu[1:]), wall=n / statistics.median(wall[1:]), mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, loss=loss)


# --- processes ---

def child(argv, cpus, env=None):
    env = dict(os.environ, OMP_NUM_THREADS=str(len(cpus)), MKL_NUM_THREADS=str(len(cpus)), **(env or {}))
    p = subprocess.run(['taskset', '-c', ','.join(map(str, cpus)), *argv], capture_output=True, text=True, env=env)
    if p.returncode: return None, (p.stderr.strip().splitlines() or [f'status {p.returncode}'])[-1]
    return json.loads(p.stdout.strip().splitlines()[-1] if argv[0] == sys.executable else p.stdout), None


def measure(a, case, tool):
    shape, dtype, threads, seq = case
    cpus = a.cpus[:threads]
    if tool == 'dpipe':
        argv = [DPIPE, 'bench', 'trainer', '--shape', shape, '--dtype', dtype, '--threads', str(threads), '--rounds', str(a.steps)]
        if seq != SEQ: argv += ['--context', str(seq)]
        d, why = child(argv, cpus)
        return (dict(cpu=d['tokens_per_cpu_s'], wall=d['tokens_per_s'], mib=d['peak_rss_mib'], mfu=d['mfu'], peak=d['peak_gflops'], cpu_ms=d['cpu_ms']), None) if d else (None, why)
    env = dict(LD_PRELOAD=a.preload) if 'tuned' in tool else None
    return child([sys.executable, __file__, '_torch', shape, dtype, str(int('compiled' in tool)), str(threads), str(a.steps)], cpus, env)


def cases(a):
    for shape in a.shapes:
        for dtype in a.dtypes:
            tools = ['dpipe', 'torch'] + (['torch tuned'] if dtype == 'fp32' else ['torch compiled'])
            yield (shape, dtype, 1, SEQ), tools
            if len(a.cpus) > 1: yield (shape, dtype, 2, SEQ), ['dpipe'] + (['torch tuned'] if dtype == 'fp32' else ['torch']) * (shape == '10m')
            if a.long and shape == '10m':
                for seq in (1024, 4096): yield (shape, dtype, 1, seq), ['dpipe']


def musts(a, m):
    """Rows of the issue's table: (what, dpipe's figure, beside, ratio, must)."""
    for shape in a.shapes:
        for dtype in a.dtypes:
            own = m.get(((shape, dtype, 1, SEQ), 'dpipe'))
            if not own: continue
            for (d, peer), by_shape in MUSTS.items():
                other = m.get(((shape, dtype, 1, SEQ), peer))
                if d == dtype and other and shape in by_shape and not (peer == 'torch' and d == 'fp32' and not a.amd):
                    yield f'{shape} {dtype}, tokens per CPU s, of {peer}', own['cpu'], f'{other["cpu"]:.0f}', own['cpu'] / other['cpu'], by_shape[shape]
            two = m.get(((shape, dtype, 2, SEQ), 'dpipe'))
            if two: yield f'{shape} {dtype}, tokens/s, two threads of one', two['wall'], f'{own["wall"]:.0f}', two['wall'] / own['wall'], 1.9
            if shape == '124m': yield f'{shape} {dtype}, GB at most 2.5', own['mib'] * 2**20 / 1e9, '', 2.5 / (own['mib'] * 2**20 / 1e9), 1.0


def report(a, m):
    print(f'\n{"tool":<16} {"step":<26} {"tok/CPU s":>10} {"tok/s":>8} {"MFU":>6} {"MiB":>7}')
    for (case, tool), r in sorted(m.items(), key=lambda x: ([str(v) for v in x[0][0]], x[0][1])):
        what = f'{case[0]} {case[1]} {case[2]} thread{"s" * (case[2] > 1)}' + (f' T={case[3]}' if case[3] != SEQ else '')
        print(f'{tool:<16} {what:<26} {r["cpu"]:>10.0f} {r["wall"]:>8.0f} {r.get("mfu", 0):>6.1%} {r["mib"]:>7.0f}')
    rows = [dict(what=w, dpipe=round(o, 2), beside=b, ratio=round(r, 3), must=t, holds=r >= t) for w, o, b, r, t in musts(a, m)]
    print_musts(rows, 48)
    print(f'{sum(r["holds"] for r in rows)} of {len(rows)} hold; load {os.getloadavg()[0]:.1f}')
    with open(f'{a.out}/trainer.json', 'w') as f:
        json.dump(dict(runs=a.runs, steps=a.steps, load=os.getloadavg()[0], musts=rows, medians=[dict(shape=c[0], dtype=c[1], threads=c[2], seq=c[3], tool=tool, **r) for (c, tool), r in m.items()]), f, indent=1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', required=True)
    p.add_argument('--preload', help='library that tells MKL that an AMD processor will do')
    p.add_argument('--runs', type=int, default=3)
    p.add_argument('--steps', type=int, default=5)
    p.add_argument('--shapes', nargs='+', default=list(SHAPES), choices=SHAPES)
    p.add_argument('--dtypes', nargs='+', default=['fp32', 'bf16'], choices=['fp32', 'bf16'])
    p.add_argument('--long', action='store_true', help='dpipe with sequences of 1,024 and 4,096 too')
    a = p.parse_args()
    a.cpus = sorted(os.sched_getaffinity(0))[:2]
    a.amd = 'AuthenticAMD' in open('/proc/cpuinfo').read()
    if len(a.cpus) < 2: say('note: one processor only: nothing with two threads')
    report(a, race(list(cases(a)), ('shape', 'dtype', 'threads', 'seq'), lambda case, tool: measure(a, case, tool), a.runs, a.out))


if __name__ == '__main__':
    if sys.argv[1:2] == ['_torch']: print(json.dumps(torch_steps(sys.argv[2], sys.argv[3], sys.argv[4] == '1', int(sys.argv[5]), int(sys.argv[6]))))
    else: main()
