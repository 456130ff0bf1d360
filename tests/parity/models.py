#!/usr/bin/env python3
"""Models that go out and come in: folders of `dpipe export --format hf` by transformers (the same weights, logits within 1e-4 of ours, the same greedy
text, the same tokens), GGUF by the gguf package and by llama.cpp (xllamacpp; KLD <= 1e-4), and folders of transformers read by dpipe; safetensors
files of either by the other. usage: make parity-models"""
import ctypes as C, json, os, random, shutil
from lib import BUILD, DPIPE, ROOT, check, dpipe, finish, folder, need, same, skip

TOKENIZER = os.path.join(ROOT, 'tests/data/tokenizer/hf.json')
CONTEXT = 96


class Ours:
    """Logits of dp_generator, one token after the other."""
    lib = None

    def __init__(self, path):
        if not Ours.lib: Ours.lib = C.CDLL(os.path.join(BUILD, 'libdpipe.so'))
        self.g, self.err = C.c_void_p(), C.create_string_buffer(1024)
        rc = self.lib.dp_generator_open(C.byref(self.g), path.encode(), None, self.err)
        if rc < 0: raise RuntimeError(f'{path}: {self.err.raw[24:400]}')

    def logits(self, ids, vocab):
        self.lib.dp_generator_reset(self.g)
        p, out = C.POINTER(C.c_float)(), []
        for i in ids:
            assert self.lib.dp_generator_feed(self.g, C.c_int32(i), C.byref(p), self.err) >= 0
            out.append(numpy.ctypeslib.as_array(p, (vocab,)).copy())
        return numpy.stack(out)

    def close(self): self.lib.dp_generator_close(self.g)


def kinds(vocab):
    """Models of transformers with random weights, large enough to tell: each is what it says in its name."""
    t = transformers
    gpt2 = dict(vocab_size=vocab, n_positions=CONTEXT, n_embd=64, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0)
    llama = dict(vocab_size=vocab, max_position_embeddings=CONTEXT, hidden_size=64, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2,
                 intermediate_size=176, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=0)
    yield 'gpt2', t.GPT2LMHeadModel(t.GPT2Config(**gpt2))
    yield 'gpt2 untied', t.GPT2LMHeadModel(t.GPT2Config(**gpt2, tie_word_embeddings=False))
    yield 'llama', t.LlamaForCausalLM(t.LlamaConfig(**llama))
    yield 'llama tied', t.LlamaForCausalLM(t.LlamaConfig(**llama, tie_word_embeddings=True))
    yield 'llama theta', t.LlamaForCausalLM(t.LlamaConfig(**{**llama, 'rms_norm_eps': 1e-6}, rope_theta=5e5, head_dim=16))
    yield 'qwen3', t.Qwen3ForCausalLM(t.Qwen3Config(**{**llama, 'rms_norm_eps': 1e-6}, head_dim=16, rope_theta=1e6))
    yield 'qwen3 tied', t.Qwen3ForCausalLM(t.Qwen3Config(**llama, head_dim=8, tie_word_embeddings=True))
    yield 'llama padded', t.LlamaForCausalLM(t.LlamaConfig(**{**llama, 'vocab_size': vocab + 13}))


def make(name, model, path, shard='5GB'):
    torch.manual_seed(len(name))
    with torch.no_grad():
        for n, p in model.named_parameters(): p.copy_(torch.randn_like(p) * .08 + (1 if p.dim() == 1 and n.endswith('weight') else 0))
    model.eval().save_pretrained(path, max_shard_size=shard)
    return model


def theirs(model, ids):
    with torch.no_grad(): return model(torch.tensor(ids)[None]).logits[0].double().numpy()


def by_safetensors(name, w, ids, vocab):
    """Our model.safetensors by the safetensors package; written again by it, in another order and alignment, it is the same to us."""
    from safetensors.torch import load_file, save_file
    for dtype in ('f32', 'f16', 'bf16'):
        src, out = f'{w}/hf-{dtype}', f'{w}/st-{dtype}'
        tensors = load_file(f'{src}/model.safetensors')
        os.mkdir(out); shutil.copy(f'{src}/config.json', out)
        save_file({k: tensors[k] for k in sorted(tensors, reverse=True)}, f'{out}/model.safetensors')
        a, b = Ours(src), Ours(out)
        check((a.logits(ids, vocab) == b.logits(ids, vocab)).all(), f'{name}, {dtype}: written again by safetensors')
        a.close(), b.close()
        with safetensors.safe_open(f'{src}/model.safetensors', 'pt') as f: check(f.metadata() == {'format': 'pt'}, f'{name}: {f.metadata()}')


def kld(p, q):
    """Of rows of log-probabilities, the mean over rows."""
    return float((numpy.exp(p) * (p - q)).sum(-1).mean())


def log_softmax(x):
    x = numpy.asarray(x, dtype=numpy.float64); x = x - x.max(-1, keepdims=True)
    return x - numpy.log(numpy.exp(x).sum(-1, keepdims=True))


def by_transformers(name, src, model, w, ids, texts):
    """Our folder of a model, by AutoModelForCausalLM and AutoTokenizer."""
    for dtype in ('f32', 'f16', 'bf16'):
        out = f'{w}/hf-{dtype}'
        dpipe('export', '--format', 'hf', '--model', src, '--tokenizer', TOKENIZER, '--dtype', dtype, '-o', out)
        again = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
        torch_type = dict(f32=torch.float32, f16=torch.float16, bf16=torch.bfloat16)[dtype]
        a, b = model.state_dict(), again.state_dict()
        check(sorted(a) == sorted(b) and all(torch.equal(a[k].to(torch_type).float(), b[k]) for k in a), f'{name}, {dtype}: the weights of transformers')
        check(type(again) is type(model), f'{name}: {type(again).__name__}')
        g = Ours(out)
        mine = g.logits(ids, again.config.vocab_size)
        g.close()
        far = abs(mine - theirs(again, ids)).max()
        check(far < 1e-4, f'{name}, {dtype}: logits differ by {far:g}')
        if dtype != 'f32': continue
        tok = transformers.AutoTokenizer.from_pretrained(out)
        own = [json.loads(r)['ids'] for r in dpipe('tokenize', '--tokenizer', out, '--jsonl', stdin=''.join(json.dumps({'text': t}) + '\n' for t in texts).encode()).splitlines()]
        same([tok.encode(t, add_special_tokens=False) for t in texts], own, f'{name}: AutoTokenizer ({type(tok).__name__})')
        check(tok.eos_token == '<|endoftext|>', f'{name}: eos_token {tok.eos_token}')
        check(again.generation_config.eos_token_id == 0, f'{name}: generation_config')


def by_generate(name, w, texts):
    """Greedy text of `dpipe generate` and of transformers, with and without a repetition penalty."""
    again = transformers.AutoModelForCausalLM.from_pretrained(f'{w}/hf-f32', dtype=torch.float32).eval()
    tok = transformers.AutoTokenizer.from_pretrained(f'{w}/hf-f32')
    for text in texts:
        for penalty in (1, 1.3):
            ids = torch.tensor([[0] + tok.encode(text, add_special_tokens=False)])
            with torch.no_grad():
                out = again.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=40, repetition_penalty=float(penalty), pad_token_id=0)[0, ids.shape[1]:].tolist()
            got = json.loads(dpipe('generate', '--model', f'{w}/hf-f32', '--prompt', text, '--tokens', 40, '--temperature', 0, '--repetition-penalty', penalty, '--json'))
            same((got['text'], got['tokens'], got['prompt_tokens']), (tok.decode(out, skip_special_tokens=True, clean_up_tokenization_spaces=False), len(out), ids.shape[1]),
                 f'{name}: greedy text behind {text!r}, penalty {penalty}')


def by_llama_cpp(name, src, w, ids, vocab):
    tensors = {}
    for dtype in ('f32', 'f16', 'bf16'):
        file, hf = f'{w}/{dtype}.gguf', f'{w}/hf-{dtype}'
        dpipe('export', '--format', 'gguf', '--model', src, '--tokenizer', TOKENIZER, '--dtype', dtype, '-o', file)
        r = gguf.GGUFReader(file)
        check(r.fields['general.file_type'].contents() == dict(f32=0, f16=1, bf16=32)[dtype], f'{name}, {dtype}: file_type')
        check(len(r.fields['tokenizer.ggml.tokens'].contents()) == vocab, f'{name}: as many tokens as rows')
        tensors[dtype] = {t.name: (t.tensor_type.name, t.shape.tolist()) for t in r.tensors}
        want = {t for t, (_, shape) in tensors[dtype].items() if len(shape) == 2 and t != 'position_embd.weight'}
        same({t for t, (kind, _) in tensors[dtype].items() if kind == dtype.upper()}, want if dtype != 'f32' else set(tensors[dtype]), f'{name}, {dtype}: types')
        if not xllamacpp: continue
        g = Ours(hf)
        mine = log_softmax(g.logits(ids, vocab))
        g.close()
        got = log_softmax_of_llama_cpp(file, ids, vocab)
        far = kld(mine[[n - 1 for n in got]], numpy.stack(list(got.values())))
        check(abs(far) <= 1e-4, f'{name}, {dtype}: KLD {far:g}')
        print(f'  {name}, {dtype}: llama.cpp KLD {far:.2e}')


def log_softmax_of_llama_cpp(file, ids, vocab):
    """{n: log-probabilities after the first n ids}"""
    p = xllamacpp.CommonParams()
    p.model.path, p.n_ctx, p.n_gpu_layers, p.warmup, p.verbosity, p.n_parallel = file, CONTEXT, 0, False, -1, 1
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
    server, out = xllamacpp.Server(p), {}
    for n in (1, 2, 17, len(ids)):
        for seed in range(20):  # an end of text that was drawn comes without probabilities
            r = server.handle_completions({'prompt': ids[:n], 'n_predict': 1, 'n_probs': vocab, 'temperature': 1.0, 'seed': seed, 'cache_prompt': False})
            if r['choices'][0]['logprobs']: break
        row = numpy.full(vocab, -numpy.inf)
        for x in r['choices'][0]['logprobs']['content'][0]['top_logprobs']: row[x['id']] = x['logprob']
        check(numpy.isfinite(row).all(), f'{file}: {numpy.isfinite(row).sum()} of {vocab} probabilities')
        out[n] = row
    del server
    return out


def main():
    r = random.Random(7)
    vocab = json.loads(dpipe('tokenizer', 'info', TOKENIZER))['ids']
    texts = ['', 'The quick brown fox', ' naïve  café\n\n東京 😀', "it's 1234567 o'clock", 'a' * 50] + [''.join(r.choice(' abcdeö.\n1') for _ in range(30)) for _ in range(50)]
    with folder() as top:
        for name, model in kinds(vocab):
            w = os.path.join(top, name.replace(' ', '-')); os.mkdir(w)
            make(name, model, f'{w}/src', '5GB' if 'tied' in name else '100KB')
            ids = [r.randrange(vocab) for _ in range(CONTEXT - 2)]
            by_transformers(name, f'{w}/src', model, w, ids, texts)
            by_safetensors(name, w, ids, model.config.vocab_size)
            by_generate(name, w, ['', 'The quick brown', ' naïve 東京'])
            by_llama_cpp(name, f'{w}/src', w, ids, model.config.vocab_size)
            shutil.rmtree(w)


if need('torch', 'transformers', 'safetensors', 'numpy', 'gguf'):
    import gguf, numpy, safetensors, torch, transformers
    transformers.utils.logging.set_verbosity_error(); transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    try: import xllamacpp
    except ImportError: xllamacpp = skip('xllamacpp: not installed')
    main()
finish()
