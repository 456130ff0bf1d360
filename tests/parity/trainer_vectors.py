#!/usr/bin/env python3
"""The trainer against PyTorch: models of odd shapes, QK-norm, document masks, z-loss and muP, written here a second time, replayed by
`dpipe train --verify` at every CPU level. How far PyTorch's fp32 is from its fp64 says how near is near enough: ten times that.
Where transformers is installed, Llama, GPT-2 and Qwen3 of it are a third opinion about logits and gradients.
usage: trainer_vectors.py            (make parity)
       trainer_vectors.py --write DIR [--random N]   make tests/data/trainer/odd, or N random cases to look into"""
import json, math, os, random, sys, zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import check, dpipe, finish, folder, need

torch = need('torch')
if torch and not need('numpy', 'safetensors'): torch = None
if torch:
    import torch.nn.functional as F
    from safetensors.torch import save_file
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

USUAL = dict(arch='gpt2', layers=2, dim=12, heads=3, kv_heads=0, head_dim=0, ffn=20, T=8, B=2, vocab=23, tied=None, qk_norm=False, norm_eps=1e-5,
             rope_theta=1e4, z_loss=0.0, documents='', mup_base_dim=0, mup_base_head_dim=0, lr=1e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1,
             clip=1.0, steps=3)
FROZEN = {
    'gpt2_odd': dict(dim=9, heads=3, ffn=11, vocab=37, T=11, B=3),
    'gpt2_one_token': dict(dim=6, heads=2, ffn=7, vocab=11, T=1, B=5),
    'gpt2_untied_qk_norm_documents': dict(layers=1, dim=10, heads=3, head_dim=5, ffn=13, vocab=19, T=9, tied=False, qk_norm=True, documents='masked'),
    'llama_odd': dict(arch='llama', layers=1, dim=14, heads=7, kv_heads=1, ffn=9, vocab=31, T=13),
    'llama_one_token': dict(arch='llama', dim=9, heads=2, kv_heads=1, head_dim=6, ffn=5, vocab=7, T=1, B=4, layers=1),
    'qwen': dict(arch='llama', dim=10, heads=4, kv_heads=2, head_dim=6, ffn=15, vocab=29, T=7, tied=True, qk_norm=True, norm_eps=1e-6, rope_theta=1e6),
    'llama_documents': dict(arch='llama', layers=1, dim=8, heads=2, kv_heads=1, ffn=6, vocab=9, T=70, B=2, documents='restarted'),
    'llama_z_loss_mup': dict(arch='llama', layers=1, dim=12, heads=3, kv_heads=3, ffn=16, vocab=13, T=5, z_loss=1e-2, mup_base_dim=8, mup_base_head_dim=3),
}
GROUPS = 'logits losses grad grad_norms after3 m3 v3'.split()


def config(over):
    c = dict(USUAL, **over)
    c['kv_heads'] = c['kv_heads'] or c['heads']
    if c['tied'] is None: c['tied'] = c['arch'] == 'gpt2'
    c['hd'] = c['head_dim'] or c['dim'] // c['heads']
    return c


def shapes(c):
    """Names and shapes in the order of the model's parameters."""
    d, q, kv, f = c['dim'], c['heads'] * c['hd'], c['kv_heads'] * c['hd'], c['ffn']
    if c['arch'] == 'gpt2':
        yield 'transformer.wte.weight', (c['vocab'], d)
        yield 'transformer.wpe.weight', (c['T'], d)
        for i in range(c['layers']):
            p = f'transformer.h.{i}.'
            yield from ((p + n, s) for n, s in (
                ('ln_1.weight', (d,)), ('ln_1.bias', (d,)), ('ln_2.weight', (d,)), ('ln_2.bias', (d,)), ('attn.c_attn.weight', (3 * q, d)),
                ('attn.c_attn.bias', (3 * q,)), ('attn.c_proj.weight', (d, q)), ('attn.c_proj.bias', (d,))))
            if c['qk_norm']: yield from ((p + f'attn.{n}_norm.weight', (c['hd'],)) for n in 'qk')
            yield from ((p + n, s) for n, s in (
                ('mlp.c_fc.weight', (f, d)), ('mlp.c_fc.bias', (f,)), ('mlp.c_proj.weight', (d, f)), ('mlp.c_proj.bias', (d,))))
        yield 'transformer.ln_f.weight', (d,)
        yield 'transformer.ln_f.bias', (d,)
    else:
        yield 'model.embed_tokens.weight', (c['vocab'], d)
        for i in range(c['layers']):
            p = f'model.layers.{i}.'
            yield from ((p + n, s) for n, s in (
                ('self_attn.q_proj.weight', (q, d)), ('self_attn.k_proj.weight', (kv, d)), ('self_attn.v_proj.weight', (kv, d)),
                ('self_attn.o_proj.weight', (d, q)), ('mlp.gate_proj.weight', (f, d)), ('mlp.up_proj.weight', (f, d)), ('mlp.down_proj.weight', (d, f)),
                ('input_layernorm.weight', (d,)), ('post_attention_layernorm.weight', (d,))))
            if c['qk_norm']: yield from ((p + f'self_attn.{n}_norm.weight', (c['hd'],)) for n in 'qk')
        yield 'model.norm.weight', (d,)
    if not c['tied']: yield 'lm_head.weight', (c['vocab'], d)


def weights(c, seed):
    """Nothing at 0 or 1, so that no term of a gradient is hidden."""
    g = torch.Generator().manual_seed(seed)
    return {n: torch.randn(s, generator=g) * (min(0.2, s[1] ** -0.5) if len(s) > 1 else 0.1) + (1.0 if len(s) == 1 and 'bias' not in n else 0.0) for n, s in shapes(c)}


def hidden(name):
    return '.h.' in name or '.layers.' in name


def positions(c, seed):
    """[steps, B, T]: documents of random lengths, single tokens among them."""
    r = random.Random(seed)
    rows = []
    for _ in range(c['steps'] * c['B']):
        row = []
        while len(row) < c['T']: row += range(r.choice((1, 2, 3, c['T'] // 2 + 1, c['T'])))
        rows.append(row[:c['T']])
    return torch.tensor(rows).view(c['steps'], c['B'], c['T'])


def rms(c, x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + c['norm_eps']) * w


def rotate(c, x, where):
    """x [B, heads, T, hd], where [B, T]; the halves of a head are a pair of coordinates each."""
    h = c['hd'] // 2
    a = where[:, None, :, None].to(x.dtype) * c['rope_theta'] ** (-torch.arange(h, dtype=x.dtype) / h)
    return torch.cat([x[..., :h] * a.cos() - x[..., h:] * a.sin(), x[..., h:] * a.cos() + x[..., :h] * a.sin()], -1)


def attention(c, p, names, q, k, v, pos):
    b, t = pos.shape
    q, k, v = (x.view(b, t, -1, c['hd']).transpose(1, 2) for x in (q, k, v))
    if c['qk_norm']: q, k = rms(c, q, p[names + 'q_norm.weight']), rms(c, k, p[names + 'k_norm.weight'])
    place = torch.arange(t).expand(b, t)
    if c['arch'] == 'llama':
        where = pos if c['documents'] == 'restarted' else place
        q, k = rotate(c, q, where), rotate(c, k, where)
    k, v = (x.repeat_interleave(c['heads'] // c['kv_heads'], 1) for x in (k, v))
    scale = math.sqrt(c['mup_base_head_dim']) / c['hd'] if c['mup_base_head_dim'] else 1 / math.sqrt(c['hd'])
    start = place - pos if c['documents'] else torch.zeros_like(place)
    sees = (place[:, None, :] <= place[:, :, None]) & (place[:, None, :] >= start[:, :, None])
    s = (q @ k.transpose(-2, -1) * scale).masked_fill(~sees[:, None], float('-inf')).softmax(-1)
    return (s @ v).transpose(1, 2).reshape(b, t, -1)


def forward(c, p, ids, pos):
    b, t = ids.shape
    q, kv = c['heads'] * c['hd'], c['kv_heads'] * c['hd']
    if c['arch'] == 'gpt2':
        wte, norm = p['transformer.wte.weight'], lambda x, n: F.layer_norm(x, (c['dim'],), p[n + '.weight'], p[n + '.bias'], c['norm_eps'])
        x = wte[ids] + p['transformer.wpe.weight'][pos if c['documents'] == 'restarted' else torch.arange(t).expand(b, t)]
        lin = lambda x, n: F.linear(x, p[n + '.weight'], p[n + '.bias'])
        for i in range(c['layers']):
            n = f'transformer.h.{i}.'
            x = x + lin(attention(c, p, n + 'attn.', *lin(norm(x, n + 'ln_1'), n + 'attn.c_attn').split(q, -1), pos), n + 'attn.c_proj')
            x = x + lin(F.gelu(lin(norm(x, n + 'ln_2'), n + 'mlp.c_fc'), approximate='tanh'), n + 'mlp.c_proj')
        x = norm(x, 'transformer.ln_f')
    else:
        wte = p['model.embed_tokens.weight']
        x = wte[ids]
        for i in range(c['layers']):
            n = f'model.layers.{i}.'
            h, w = rms(c, x, p[n + 'input_layernorm.weight']), lambda m: p[n + m + '.weight'].T
            x = x + attention(c, p, n + 'self_attn.', *(h @ w(f'self_attn.{m}_proj') for m in 'qkv'), pos) @ w('self_attn.o_proj')
            h = rms(c, x, p[n + 'post_attention_layernorm.weight'])
            x = x + (F.silu(h @ w('mlp.gate_proj')) * (h @ w('mlp.up_proj'))) @ w('mlp.down_proj')
        x = rms(c, x, p['model.norm.weight'])
    head = wte if c['tied'] else p['lm_head.weight']
    return x @ head.T * (c['mup_base_dim'] / c['dim'] if c['mup_base_dim'] else 1)


def batches(c, seed):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, c['vocab'], (c['steps'], c['B'], c['T'] + 1), generator=g)
    x, y = ids[..., :-1].contiguous(), ids[..., 1:].clone()
    if c['T'] > 3: y[:, -1, 2:c['T'] // 2 + 1] = -1
    return x, y


def run(c, seed, dtype):
    p = {n: w.to(dtype).requires_grad_() for n, w in weights(c, seed).items()}
    x, y = batches(c, seed + 1)
    pos = positions(c, seed)
    m = c['dim'] / c['mup_base_dim'] if c['mup_base_dim'] else 1
    opt = torch.optim.AdamW([dict(params=[w], weight_decay=c['weight_decay'] if w.dim() > 1 else 0.0, lr=c['lr'] / (m if w.dim() > 1 and hidden(n) else 1))
                             for n, w in p.items()], betas=(c['beta1'], c['beta2']), eps=c['eps'], foreach=False)
    out = {'init.' + n: w.detach().clone() for n, w in p.items()}
    losses, norms = [], []
    for s in range(c['steps']):
        logits = forward(c, p, x[s], pos[s])
        lse, target = logits.logsumexp(-1), y[s]
        nll = F.cross_entropy(logits.view(-1, c['vocab']), target.reshape(-1), ignore_index=-1)
        loss = nll + c['z_loss'] * (lse[target >= 0] ** 2).mean()
        opt.zero_grad()
        loss.backward()
        if s == 0:
            out['logits'] = logits.detach().clone()
            out.update(('grad.' + n, w.grad.clone()) for n, w in p.items())
        norms.append(torch.nn.utils.clip_grad_norm_(p.values(), c['clip'], foreach=False))
        losses.append(loss.detach())
        opt.step()
    for n, w in p.items():
        out.update({'after3.' + n: w.detach().clone(), 'm3.' + n: opt.state[w]['exp_avg'].clone(), 'v3.' + n: opt.state[w]['exp_avg_sq'].clone()})
    out['losses'], out['grad_norms'] = torch.stack(losses), torch.stack(norms)
    return {k: v.contiguous() for k, v in out.items()}, x.int(), y.int().contiguous(), pos.int()


def gaps(a, b):
    """Largest distance of fp32 from fp64 in each group, but no less than four roundings of its largest number. Key biases are left out: without QK-norm their gradient is 0 but for rounding."""
    worst = dict.fromkeys(GROUPS, 0.0)
    for k in a:
        g = k.split('.')[0]
        if g not in worst: continue
        d = (a[k].double() - b[k]).abs()
        if k.endswith('attn.c_attn.bias'): d = torch.cat([d[:len(d) // 3], d[2 * len(d) // 3:]])
        worst[g] = max(worst[g], d.max().item(), 4 * 2 ** -24 * b[k].abs().max().item())
    return worst


def write(path, c, seed, small=False):
    a, x, y, pos = run(c, seed, torch.float32)
    b, *_ = run(c, seed, torch.float64)
    near = {g: 10 * d for g, d in gaps(a, b).items()}
    meta = {k: str(v) for k, v in c.items() if k not in ('hd', 'tied', 'documents', 'steps', 'qk_norm') and (v != USUAL[k] or k in (
        'arch', 'B', 'T', 'vocab', 'dim', 'layers', 'heads', 'kv_heads', 'ffn', 'lr', 'beta1', 'beta2', 'eps', 'weight_decay', 'clip'))}
    meta.update(('tolerance.' + g, '%.3g' % d) for g, d in near.items())
    if c['qk_norm']: meta['qk_norm'] = '1'
    if c['documents']: a['positions'], meta['restart'] = pos.contiguous(), str(int(c['documents'] == 'restarted'))
    a['tokens'], a['targets'] = x, y
    if small: a = {k: v for k, v in a.items() if not k.startswith('m3.')}  # v3 and after3 say as much
    save_file(a, path, metadata=dict(meta, torch=torch.__version__))
    return near


def draw(r):
    """A random case; now and then a dimension of 1, or one beyond the tiles of the kernels."""
    c = dict(arch=r.choice(('gpt2', 'llama')), layers=r.randint(1, 3), heads=r.randint(1, 6), T=r.choice((1, 2, 3, 17, 64, 65, 130, r.randint(1, 40))),
             B=r.randint(1, 4), vocab=r.choice((2, 3, 257, r.randint(2, 600))), ffn=r.choice((1, 7, 129, r.randint(1, 300))), qk_norm=r.random() < 0.4,
             tied=r.random() < 0.5, documents=r.choice(('', '', 'masked', 'restarted')), norm_eps=r.choice((1e-5, 1e-6, 1e-3)), rope_theta=r.choice((1e4, 5e5)),
             z_loss=r.choice((0.0, 0.0, 1e-4, 1e-2)))
    hd = r.choice((2, 4, 6, 10, 16, 34, 66)) if c['arch'] == 'llama' else r.randint(1, 40)
    if r.random() < 0.5: c.update(head_dim=hd, dim=r.randint(3, 140))
    else: c['dim'] = hd * c['heads']
    if c['arch'] == 'llama': c['kv_heads'] = r.choice([k for k in range(1, c['heads'] + 1) if c['heads'] % k == 0])
    if r.random() < 0.2: c.update(mup_base_dim=r.randint(1, 64), mup_base_head_dim=r.choice((0, 8)))
    return c


def transformers_agree():
    """Logits and gradients of the models above against transformers' own."""
    hf = need('transformers')
    if not hf: return
    for name, arch in (('llama_odd', 'Llama'), ('qwen', 'Qwen3'), ('gpt2_odd', 'GPT2')):
        c = config(FROZEN[name])
        p = {n: w.requires_grad_() for n, w in weights(c, 7).items()}
        x, y = batches(c, 8)
        common = dict(vocab_size=c['vocab'], tie_word_embeddings=c['tied'], attn_implementation='eager')
        if arch == 'GPT2':
            m = hf.GPT2LMHeadModel(hf.GPT2Config(n_positions=c['T'], n_embd=c['dim'], n_layer=c['layers'], n_head=c['heads'], n_inner=c['ffn'], resid_pdrop=0,
                                                 embd_pdrop=0, attn_pdrop=0, layer_norm_epsilon=c['norm_eps'], **common))
        else:
            m = getattr(hf, arch + 'ForCausalLM')(getattr(hf, arch + 'Config')(
                hidden_size=c['dim'], num_hidden_layers=c['layers'], num_attention_heads=c['heads'], num_key_value_heads=c['kv_heads'], head_dim=c['hd'],
                intermediate_size=c['ffn'], max_position_embeddings=c['T'], rms_norm_eps=c['norm_eps'],
                rope_parameters=dict(rope_type='default', rope_theta=c['rope_theta']), **common))
        turned = lambda n: arch == 'GPT2' and n.endswith(('c_attn.weight', 'c_proj.weight', 'c_fc.weight'))  # Conv1D
        theirs = dict(m.named_parameters())
        with torch.no_grad():
            for n, w in theirs.items(): w.copy_(p[n].T if turned(n) else p[n])
        ours = forward(c, p, x[0], None if c['documents'] else torch.zeros_like(x[0]))
        logits = m.eval()(x[0]).logits
        check((ours - logits).abs().max().item() < 3e-6, f'{name}: logits of transformers {arch}')
        for z in (ours, logits): F.cross_entropy(z.view(-1, c['vocab']), y[0].reshape(-1), ignore_index=-1).backward()
        for n, w in theirs.items():
            g = p[n].grad.T if turned(n) else p[n].grad
            check((g - w.grad).abs().max().item() < 1e-6, f'{name}: gradient of {n}')


def verify(path, what, near):
    level = dpipe('--version').decode().split('of ')[-1].strip(' )\n')
    names = ['scalar', 'avx2', 'avx512', 'avx512bf16']
    first = None
    for cpu in names[:names.index(level) + 1]:
        try: got = json.loads(dpipe('train', '--verify', path, '--cpu', cpu))
        except RuntimeError as e:
            check(False, f'{what} {cpu}: {e}')
            return
        for g, d in near.items():
            if g != 'after3': check(got[g] <= d, f'{what} {cpu}: {g} is {got[g]:.3g} away, allowed {d:.3g} (worst {got["worst"]})')
        check(got['ok'], f'{what} {cpu}: {got["worst"]}')  # knows which elements of after3 are noise
        first = first or got
        check(got == first, f'{what}: {cpu} is scalar, bit for bit')


def main():
    out = sys.argv[sys.argv.index('--write') + 1] if '--write' in sys.argv else None
    n = int(sys.argv[sys.argv.index('--random') + 1]) if '--random' in sys.argv else 0 if out else 25
    r = random.Random(2)
    cases = list(FROZEN.items()) if not (out and n) else []
    cases += [(f'random_{i}', draw(r)) for i in range(n)]
    with folder() as d:
        for name, over in cases:
            path = os.path.join(out or d, name + '.safetensors')
            near = write(path, config(over), zlib.crc32(name.encode()), small=bool(out and not n))
            if not out: verify(path, f'{name} {over}', near)
    if not out: transformers_agree()


if torch: main()
finish()
