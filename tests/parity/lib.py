"""For tests/parity: count checks, skip what isn't installed, run dpipe, make a small corpus. Closes with 'N passed, N failed'."""
import importlib, importlib.machinery, json, os, random, subprocess, sys, tempfile, types

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get('BUILD', os.path.join(ROOT, 'build/release'))
DPIPE = os.environ.get('DPIPE', os.path.join(BUILD, 'dpipe'))
counts = {'passed': 0, 'failed': 0, 'skipped': 0}


def check(ok, what):
    counts['passed' if ok else 'failed'] += 1
    if not ok: print('FAIL:', what)
    return ok


def same(got, want, what):
    """Equal lists or texts, else the first place where they differ."""
    if got == want: return check(True, what)
    k = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    return check(False, f'{what}: at {k}: dpipe {got[k:k + 5]!r}, reference {want[k:k + 5]!r} (lengths {len(got)}, {len(want)})')


def skip(what):
    counts['skipped'] += 1
    print('skip', what)


def need(*modules):
    """Import them all, or None with a printed reason."""
    try:
        got = [importlib.import_module(m) for m in modules]
    except Exception as e:  # a package that is there may still fail to load
        skip(f'{" ".join(modules)}: {e}')
        return None
    return got if len(got) > 1 else got[0]


def finish():
    print('%d passed, %d failed%s' % (counts['passed'], counts['failed'], ', %d skipped' % counts['skipped'] if counts['skipped'] else ''))
    sys.exit(counts['failed'] > 0)


def dpipe(*args, stdin=None, expect=0):
    r = subprocess.run([DPIPE, *map(str, args)], input=stdin, capture_output=True)
    if r.returncode != expect: raise RuntimeError(f'dpipe {" ".join(map(str, args))}: exit {r.returncode}: {r.stderr.decode()[-600:]}')
    return r.stdout


def jsonl(rows):
    return ''.join(json.dumps(r, ensure_ascii=False) + '\n' for r in rows).encode()


def folder():
    return tempfile.TemporaryDirectory(prefix='dpipe-parity.')


def store(w, kind):
    """The artifacts of a kind in a workspace, as paths in order of name."""
    return sorted(os.path.join(w, 'store', n) for n in os.listdir(os.path.join(w, 'store')) if n.startswith(kind))


WORDS = ('the of and to in that with have time people water light house river stone green walk speak large small morning garden winter letter window '
         'bread music paper silver journey market forest bridge engine number question answer naïve Straße café 東京 река 😀').split()


def workspace(w, recipe, documents=400, words=300, seed=3):
    """A workspace with sentences as documents, each with its url and title."""
    r = random.Random(seed)
    dpipe('init', '-q', w)
    with open(os.path.join(w, 'recipe.yaml'), 'w') as f: f.write(recipe)
    src = os.path.join(w, 'in.jsonl')
    with open(src, 'wb') as f:
        f.write(jsonl({'id': f'd{i}', 'url': f'http://e.example/{i}?q="ü"',
                       'text': '\n'.join(' '.join(r.choice(WORDS) for _ in range(r.randrange(6, 14))) + '.' for _ in range(words // 10))} for i in range(documents)))
    dpipe('ingest', '-q', '-w', w, '--register-only', src)


def without_torch(numpy):
    """A module named torch with as much as the peers' readers touch, on numpy: torch itself is some gigabytes and takes no part in reading."""
    t = types.ModuleType('torch')
    t.__spec__, t.__version__ = importlib.machinery.ModuleSpec('torch', None), '2.0'
    data = types.ModuleType('torch.utils.data'); data.Dataset = object
    t.utils = types.ModuleType('torch.utils'); t.utils.data = data
    t.distributed = types.SimpleNamespace(is_initialized=lambda: False, is_available=lambda: False)
    t.Tensor, t.int, t.long = numpy.ndarray, numpy.int32, numpy.int64
    t.as_tensor = t.tensor = lambda a, dtype=None: numpy.array(a, dtype=dtype)
    t.ones = lambda n, dtype=None: numpy.ones(n, dtype=dtype)
    t.cat, t.cumsum = numpy.concatenate, lambda a, dim: numpy.cumsum(a, axis=dim)
    sys.modules.update({'torch': t, 'torch.utils': t.utils, 'torch.utils.data': data})
