#!/usr/bin/env python3
"""Makes the folders beside this file, each with expected.safetensors (tokens [T] and transformers' logits [T, vocab] in fp32): small random models as
transformers saves them. usage: make.py OUTDIR   (torch, transformers, safetensors; the frozen ones are of torch 2.15.0, transformers 5.24.0)"""
import os, sys, torch, transformers
from safetensors.torch import save_file

GPT2 = dict(vocab_size=40, n_positions=24, n_embd=16, n_layer=2, n_head=2, n_inner=40, bos_token_id=0, eos_token_id=0)
LLAMA = dict(vocab_size=40, max_position_embeddings=24, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             intermediate_size=40, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=0)
KINDS = {  # name: class, config, dtype, shard size
    'gpt2': (transformers.GPT2LMHeadModel, transformers.GPT2Config(**GPT2), torch.float32, '5GB'),
    'gpt2-untied-f16': (transformers.GPT2LMHeadModel, transformers.GPT2Config(**GPT2, tie_word_embeddings=False), torch.float16, '5GB'),
    'llama-sharded-bf16': (transformers.LlamaForCausalLM, transformers.LlamaConfig(**LLAMA), torch.bfloat16, '5KB'),
    'llama-tied': (transformers.LlamaForCausalLM, transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True), torch.float32, '5GB'),
    'qwen3': (transformers.Qwen3ForCausalLM, transformers.Qwen3Config(**{**LLAMA, 'rms_norm_eps': 1e-6}, head_dim=6, rope_theta=1e6, tie_word_embeddings=True), torch.float32, '5GB'),
}


def make(out, name):
    cls, config, dtype, shard = KINDS[name]
    torch.manual_seed(sum(map(ord, name)))
    m = cls(config)
    with torch.no_grad():
        for n, p in m.named_parameters(): p.copy_(torch.randn_like(p) * .2 + (1 if 'norm' in n and 'weight' in n or '.ln_' in n and 'weight' in n else 0))
    m.to(dtype).save_pretrained(f'{out}/{name}', max_shard_size=shard)
    m = cls.from_pretrained(f'{out}/{name}', dtype=torch.float32).eval()  # m.float() would keep RoPE's frequencies as rounded to 16 bits
    tokens = torch.randint(0, 40, (24,))
    with torch.no_grad(): logits = m(tokens[None]).logits[0]
    save_file({'tokens': tokens.int(), 'logits': logits.contiguous()}, f'{out}/{name}/expected.safetensors')


for name in KINDS: make(sys.argv[1], name)
