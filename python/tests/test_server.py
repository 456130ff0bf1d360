from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import unittest
from typing import Any

from . import fixture
import dpipe


class Server:
    """`dpipe feed --serve` over a manifest."""

    def __init__(self, path: str, manifest: str) -> None:
        self.path = path
        self.process = subprocess.Popen([fixture.PROGRAM, "feed", "--manifest", manifest, "--serve", path], stderr=subprocess.DEVNULL)
        for _ in range(500):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
                if s.connect_ex(path) == 0:
                    return
            time.sleep(0.01)
        raise RuntimeError("the server didn't come")

    def end(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait()


class ServerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.d = fixture.data()
        self.path = os.path.join(self.d.dir, "feed.sock")
        self.server = Server(self.path, self.d.manifest)
        self.addCleanup(lambda: self.server.end())
        self.o: dict[str, Any] = dict(seq_len=32, batch=3, seed=7, pack="bestfit")

    def test_rows_are_the_feeds(self) -> None:
        for rank, world in (0, 1), (2, 3):
            with dpipe.Feed(self.d.manifest, rank=rank, world=world, **self.o) as f, dpipe.Feed(connect=self.path, rank=rank, world=world, **self.o) as c:
                self.assertEqual([getattr(c, n) for n in ("seq_len", "batch", "rank", "world", "samples", "tokens", "documents", "vocab_size", "eot", "pad")],
                                 [getattr(f, n) for n in ("seq_len", "batch", "rank", "world", "samples", "tokens", "documents", "vocab_size", "eot", "pad")])
                for k in range(50):
                    self.assertEqual(c.sample, f.sample)
                    if k % 2:
                        self.assertTrue((c.next() == f.next()).all())
                    else:
                        self.assertTrue(all((a == b).all() for a, b in zip(c.next_pair(), f.next_pair())))
                self.assertEqual(c.state_dict(), f.state_dict())

    def test_masks(self) -> None:
        with dpipe.Feed(self.d.manifest, **self.o) as f, dpipe.Feed(connect=self.path, meta="all", **self.o) as c:
            for _ in range(20):
                want, got = f.next_batch(), c.next_batch()
                for name, array in vars(want).items():
                    self.assertTrue((getattr(got, name) == array).all(), name)

    def test_tcp(self) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        server = subprocess.Popen([fixture.PROGRAM, "feed", "--manifest", self.d.manifest, "--serve", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
        try:
            for k in range(200):
                try:
                    c = dpipe.Feed(connect=f"127.0.0.1:{port}", compress=1, meta="all", **self.o)
                    break
                except dpipe.NotFound:
                    time.sleep(0.02)
            with c, dpipe.Feed(self.d.manifest, **self.o) as f:
                for _ in range(200):
                    self.assertTrue((c.next() == f.next()).all())
                self.assertTrue((c.next_batch().positions == f.next_batch().positions).all())
                self.assertEqual(c.state_dict(), f.state_dict())
        finally:
            server.terminate()
            server.wait()

    def test_goes_on(self) -> None:
        with dpipe.Feed(self.d.manifest, **self.o) as f, dpipe.Feed(connect=self.path, **self.o) as c:
            for _ in range(5):
                f.next(), c.next()
            state = pickle.loads(pickle.dumps(c.state_dict()))
            with dpipe.Feed(connect=self.path, start=15, **self.o) as again:
                again.load_state_dict(state)
                self.server.end(signal.SIGKILL)
                self.server = Server(self.path, self.d.manifest)
                for k in range(2000):  # more than a ring holds
                    want = f.next()
                    self.assertTrue((again.next() == want).all() and (c.next() == want).all())
            for x in c, f:
                x.seek(9)
            self.assertTrue((c.next() == f.next()).all())
            ahead = c.ahead(3, dpipe.Feed.next)
            self.assertTrue(all((next(ahead) == f.next()).all() for _ in range(20)))
            self.assertEqual(c.state_dict(), f.state_dict())
            for x in c, f:
                x.load_state_dict(state)
            self.assertTrue(all((next(ahead) == f.next()).all() for _ in range(20)))

    def test_masks_and_tcp(self) -> None:
        token = os.path.join(self.d.dir, "token")
        with open(token, "w") as t:
            t.write("correct-horse-battery\n")
        command = [fixture.PROGRAM, "feed", "--manifest", self.d.manifest, "--serve", "127.0.0.1:0", "--token-file", token]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            self.addCleanup(server.kill)
            assert server.stderr is not None
            port = server.stderr.readline().rsplit(" ", 1)[1].strip()
            for how in dict(connect=self.path), dict(connect="127.0.0.1:" + port, token_file=token, compress=1):
                with dpipe.Feed(self.d.manifest, **self.o) as f, dpipe.Feed(meta="all", **how, **self.o) as c:
                    for _ in range(40):
                        got, want = c.next_batch(), f.next_batch()
                        for name in "ids", "cu_seqlens", "segments", "positions", "loss_mask", "domain", "sample":
                            self.assertTrue((getattr(got, name) == getattr(want, name)).all(), name)
            with self.assertRaisesRegex(dpipe.ConfigError, "token"):
                dpipe.Feed(connect="127.0.0.1:" + port, **self.o)
            server.kill()

    def test_what_a_server_does_not_give(self) -> None:
        with dpipe.Feed(connect=self.path, **self.o) as c:
            with self.assertRaisesRegex(dpipe.ConfigError, "connect with meta=all"):
                c.next_batch()
            for call in lambda: c.row(0), lambda: c.origin(0):
                with self.assertRaisesRegex(dpipe.ConfigError, "open the manifest"):
                    call()
            with self.assertRaisesRegex(dpipe.ConfigError, "meta=all"):
                c.next_batch()
            self.assertEqual(c.domains, [])
            self.assertFalse(c.reload())
        with self.assertRaisesRegex(dpipe.ConfigError, "give one"):
            dpipe.Feed(self.d.manifest, connect=self.path)
        with self.assertRaisesRegex(dpipe.NotFound, "no feed server"):
            dpipe.Feed(connect=self.d.dir + "/none.sock")
        with self.assertRaisesRegex(dpipe.ConfigError, "seq_len"):
            dpipe.Feed(connect=self.path, seq_len=0)

    def test_gone_for_good(self) -> None:
        with dpipe.Feed(connect=self.path, reconnect=0.2, **self.o) as c:
            c.next()
            self.server.end()
            with self.assertRaises(dpipe.NotFound):
                for _ in range(100000):
                    c.next()
            self.server = Server(self.path, self.d.manifest)
            with dpipe.Feed(self.d.manifest, start=c.sample, **self.o) as f, dpipe.Feed(connect=self.path, start=c.sample, **self.o) as again:
                self.assertTrue((again.next() == f.next()).all())

    def test_interrupted_while_it_waits(self) -> None:
        code = ("import sys, dpipe\nc = dpipe.Feed(connect=sys.argv[1], slots=2)\nprint('open', flush=True)\nsys.stdin.readline()\n"
                "try:\n    while True: c.next()\nexcept KeyboardInterrupt: print('interrupted at', c.sample)")
        env = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(dpipe.__file__)))}
        p = subprocess.Popen([sys.executable, "-c", code, self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
        assert p.stdin and p.stdout
        self.assertEqual(p.stdout.readline(), "open\n")
        self.server.end(signal.SIGKILL)
        p.stdin.write("\n"), p.stdin.flush()
        time.sleep(1)
        begin = time.monotonic()
        p.send_signal(signal.SIGINT)
        self.assertRegex(p.stdout.read(), r"interrupted at \d+")
        self.assertLess(time.monotonic() - begin, 3)
        self.assertEqual(p.wait(), 0)
        p.stdin.close(), p.stdout.close()
        self.server = Server(self.path, self.d.manifest)

    def test_torch(self) -> None:
        try:
            from torch.utils.data import DataLoader

            from dpipe.torch import FeedDataset
        except ImportError as e:
            self.skipTest(f"torch: {e}")
        with dpipe.Feed(self.d.manifest, **self.o) as f:
            for _, batch in zip(range(5), FeedDataset(connect=self.path, masks=True, **self.o)):
                m = f.next_batch()
                self.assertEqual((batch["inputs"].tolist(), batch["positions"].tolist()), (m.inputs.tolist(), m.positions.tolist()))
        for workers in 0, 2:
            with dpipe.Feed(self.d.manifest, **self.o) as f:
                for _, (inputs, targets) in zip(range(10), DataLoader(FeedDataset(connect=self.path, **self.o), batch_size=None, num_workers=workers)):
                    want = f.next()
                    self.assertEqual((inputs.tolist(), targets.tolist()), (want[:, :-1].tolist(), want[:, 1:].tolist()))


if __name__ == "__main__":
    unittest.main()
