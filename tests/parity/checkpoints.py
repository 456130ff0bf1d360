#!/usr/bin/env python3
"""A trained model loaded with the safetensors package and run by a forward pass written here with numpy from the papers' formulas:
its loss on the validation rows is what `dpipe eval` says. GPT-2 (nanoGPT's layout) and Llama (Hugging Face's). usage: make parity"""
import json
from lib import check, dpipe, finish, folder, need, same, store, workspace


def norm(x, w, b=None):
    x = x - x.mean(-1, keepdims=True) if b is not None else x
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w + (0 if b is None else b)


def attend(q, k, v):
    """q, k, v [heads][T][size], causal."""
    s = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    s = np.where(np.tril(np.ones(s.shape[1:], bool)), s, -np.inf)
    s = np.exp(s - s.max(-1, keepdims=True))
    return (s / s.sum(-1, keepdims=True)) @ v


def split(x, heads):
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)


def gpt2(w, meta, ids):
    heads, n = int(meta['heads']), lambda i, k: w[f'transformer.h.{i}.{k}']
    x = w['transformer.wte.weight'][ids] + w['transformer.wpe.weight'][:len(ids)]
    for i in range(int(meta['layers'])):
        h = norm(x, n(i, 'ln_1.weight'), n(i, 'ln_1.bias')) @ n(i, 'attn.c_attn.weight').T + n(i, 'attn.c_attn.bias')
        a = attend(*(split(y, heads) for y in np.split(h, 3, axis=1)))
        x = x + a.transpose(1, 0, 2).reshape(x.shape) @ n(i, 'attn.c_proj.weight').T + n(i, 'attn.c_proj.bias')
        h = norm(x, n(i, 'ln_2.weight'), n(i, 'ln_2.bias')) @ n(i, 'mlp.c_fc.weight').T + n(i, 'mlp.c_fc.bias')
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h ** 3)))
        x = x + h @ n(i, 'mlp.c_proj.weight').T + n(i, 'mlp.c_proj.bias')
    return norm(x, w['transformer.ln_f.weight'], w['transformer.ln_f.bias']) @ w.get('lm_head.weight', w['transformer.wte.weight']).T


def rope(x):
    half = x.shape[-1] // 2
    a = np.outer(np.arange(x.shape[1]), 1e4 ** (-np.arange(half) / half))
    lo, hi = x[..., :half], x[..., half:]
    return np.concatenate([lo * np.cos(a) - hi * np.sin(a), hi * np.cos(a) + lo * np.sin(a)], -1)


def llama(w, meta, ids):
    heads, kv, n = int(meta['heads']), int(meta['kv_heads']), lambda i, k: w[f'model.layers.{i}.{k}.weight']
    x = w['model.embed_tokens.weight'][ids]
    for i in range(int(meta['layers'])):
        h = norm(x, n(i, 'input_layernorm'))
        q, k, v = (split(h @ n(i, f'self_attn.{p}_proj').T, m) for p, m in (('q', heads), ('k', kv), ('v', kv)))
        a = attend(rope(q), *(np.repeat(y, heads // kv, axis=0) for y in (rope(k), v)))
        x = x + a.transpose(1, 0, 2).reshape(x.shape) @ n(i, 'self_attn.o_proj').T
        h = norm(x, n(i, 'post_attention_layernorm'))
        g = h @ n(i, 'mlp.gate_proj').T
        x = x + (g / (1 + np.exp(-g)) * (h @ n(i, 'mlp.up_proj').T)) @ n(i, 'mlp.down_proj').T
    return norm(x, w['model.norm.weight']) @ w.get('lm_head.weight', w['model.embed_tokens.weight']).T


def loss(forward, w, meta, row):
    y = forward(w, meta, row[:-1])
    y = y - y.max(-1, keepdims=True)
    return (np.log(np.exp(y).sum(-1)) - y[np.arange(len(y)), row[1:]]).mean()


def main(arch, forward, more):
    with folder() as d:
        workspace(d, f'''clean:
  c4: {{enabled: false}}
  gopher_repetition: {{enabled: false}}
train-bpe: {{vocab_size: 600}}
feed: {{val_fraction: 0.2}}
train: {{arch: {arch}, layers: 2, dim: 48, heads: 4, {more}seq_len: 32, batch: 4, steps: 30, warmup: 3, lr: 0.01, eval_every: 10, eval_batches: 2, ckpt_every: 10}}
''', documents=80)
        dpipe('run', '-q', '-w', d)
        model, = store(d, 'model-')
        with safetensors.safe_open(model, framework='numpy') as f: meta, w = f.metadata(), {k: f.get_tensor(k) for k in f.keys()}
        check(meta['arch'] == arch and all(v.dtype == np.float32 and np.isfinite(v).all() for v in w.values()), f'{arch}: tensors are finite float32')
        named = {k for k in w if not k.startswith(('m.', 'v.'))}
        check(all(w[p + k].shape == w[k].shape for k in named for p in ('m.', 'v.') if p + k in w), f'{arch}: moments have the shapes of their tensors')
        copy = f'{d}/copy.safetensors'
        save_file(w, copy, metadata=meta)
        with open(copy, 'rb') as f: raw = f.read()
        crc = sf.crc32c(raw[8 + int.from_bytes(raw[:8], 'little'):])  # over the tensors' bytes, in the order safetensors chose
        save_file(w, copy, metadata={**meta, 'crc32c': '%08x' % crc})
        again = dpipe('eval', '-w', d, '-n', 0, '--json', '--model', copy)
        own = json.loads(dpipe('eval', '-w', d, '-n', 0, '--json'))
        check(json.loads(again) == own, f'{arch}: dpipe reads what safetensors wrote of it')
        n = json.loads(dpipe('feed', '-w', d, '--split', 'val', '--seq-len', 32, '--batch', 1, '--shuffle=false', '--dump', f'{d}/rows'))['samples']
        dpipe('feed', '-w', d, '--split', 'val', '--seq-len', 32, '--batch', 1, '--steps', n, '--dump', f'{d}/rows')
        rows = np.fromfile(f'{d}/rows', dtype='<i4').reshape(n, 33)
        w64 = {k: v.astype(np.float64) for k, v in w.items()}
        want = np.mean([loss(forward, w64, meta, r) for r in rows])
        check(abs(own['loss'] - want) < 2e-5 * want, f"{arch}: dpipe eval's loss is {own['loss']}, numpy's {want} over {n} rows")
        check(own['loss'] < 0.9 * np.log(600), f"{arch}: trained: loss {own['loss']}")
        print(arch, n, 'rows: loss', own['loss'], 'and', want)


if got := need('numpy', 'safetensors', 'safetensors.numpy'):
    np, safetensors = got[:2]
    save_file = got[2].save_file
    import shards_formats as sf
    main('gpt2', gpt2, '')
    main('llama', llama, 'kv_heads: 2, ')
finish()
