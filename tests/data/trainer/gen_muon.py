#!/usr/bin/env python3
"""muon.safetensors: three updates of torch.optim.Muon (PyTorch 2.15.0, CPU) on small matrices.

usage: gen_muon.py OUT. Per case: init.N, grad.N [3, rows, cols], after.N (Newton-Schulz in fp32: torch's code with its
rounding to bf16 taken out), after_bf16.N (as torch is), momentum.N. Hyper-parameters are in the metadata."""
import sys
import torch
import torch.optim._muon as muon
from safetensors.torch import save_file

CASES = {"wide": (12, 40, "original", True), "tall": (40, 12, "original", True), "square": (24, 24, "match_rms_adamw", True), "plain": (9, 17, "match_rms_adamw", False)}
LR, DECAY, MOMENTUM = 0.02, 0.1, 0.95


def in_fp32(grad, coefficients, steps, eps):
    a, b, c = coefficients
    x = grad.T if grad.size(0) > grad.size(1) else grad
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if grad.size(0) > grad.size(1) else x


def run(init, grads, adjust, nesterov):
    p = torch.nn.Parameter(init.clone())
    o = muon.Muon([p], lr=LR, weight_decay=DECAY, momentum=MOMENTUM, nesterov=nesterov, adjust_lr_fn=adjust)
    for g in grads:
        p.grad = g.clone()
        o.step()
    return p.detach(), o.state[p]["momentum_buffer"]


torch.manual_seed(7)
torch.set_num_threads(1)
out, meta = {}, {"lr": str(LR), "weight_decay": str(DECAY), "momentum": str(MOMENTUM), "torch": torch.__version__}
theirs = muon._zeropower_via_newtonschulz
for name, (rows, cols, adjust, nesterov) in CASES.items():
    init, grads = torch.randn(rows, cols) * 0.02, torch.randn(3, rows, cols) * torch.logspace(-1, 0.5, cols)
    out[f"init.{name}"], out[f"grad.{name}"] = init, grads
    out[f"after_bf16.{name}"], _ = run(init, grads, adjust, nesterov)
    muon._zeropower_via_newtonschulz = in_fp32
    out[f"after.{name}"], out[f"momentum.{name}"] = run(init, grads, adjust, nesterov)
    muon._zeropower_via_newtonschulz = theirs
    meta[f"scale.{name}"], meta[f"nesterov.{name}"] = ("rms" if adjust == "match_rms_adamw" else "shape"), str(nesterov).lower()
save_file({k: v.contiguous() for k, v in out.items()}, sys.argv[1], meta)
