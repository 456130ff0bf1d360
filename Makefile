# dpipe - one non-recursive Makefile. `make help` lists the targets.
#
#   MODE=release|debug|asan|tsan|fuzz|cov   what to build; each in build/MODE (default release)
#   MPI=1 (train-bpe and train over many machines; needs mpicc; in build/MODE-mpi)  CC=gcc|clang  V=1 (show commands)  WERROR=1  PREFIX=/usr/local  DESTDIR=

MODE    ?= release
PREFIX  ?= /usr/local
BUILD   := build/$(MODE)
VERSION := 0.1.0
Q       := $(if $(V),,@)

# Lowest first: a layer includes only what stands before it (tools/layers.sh).
LAYERS  := base ingest clean dedup tokenizer shards trainer_feed trainer daemon cli
LIBS    := libarchive libzstd libpcre2-8 sqlite3 libcrypto yaml-0.1 jansson libdeflate zlib liblzma liblz4 libbrotlidec libxxhash libevent_core libevent_pthreads libevent_openssl libssl
# Flags come from pkg-config when make starts. So where packages are missing, any goal first installs them
# and then starts make again; on a complete machine this block is nothing.
ifneq ($(filter-out help clean deps lint,$(or $(MAKECMDGOALS),all)),)
ifneq ($(shell pkg-config --exists $(LIBS) 2>/dev/null && echo yes),yes)
GOALS := $(or $(MAKECMDGOALS),all)
.PHONY: $(GOALS)
$(firstword $(GOALS)):
	@$(if $(DP_DEPS),echo "dpipe: still missing after tools/install-deps.sh: $(LIBS)" >&2; exit 69,tools/install-deps.sh)
	@$(MAKE) --no-print-directory DP_DEPS=1 $(GOALS)
$(wordlist 2,99,$(GOALS)): $(firstword $(GOALS)) ; @:
DP_REPLACED := yes
endif
endif
ifndef DP_REPLACED

ifeq ($(origin CC),default)
CC      := $(if $(MPI),mpicc,gcc)
endif
ifdef MPI
BUILD   := build/$(MODE)-mpi
CPPFLAGS += -DDP_MPI
endif
CXX     ?= g++
SAN     :=
OPT     := -O2
ifeq ($(MODE),debug)
OPT     := -O0 -DDP_DEBUG
else ifeq ($(MODE),asan)
OPT     := -O1 -DDP_DEBUG
SAN     := -fsanitize=address,undefined -fno-sanitize-recover=all
else ifeq ($(MODE),tsan)
OPT     := -O1 -DDP_DEBUG
SAN     := -fsanitize=thread
else ifeq ($(MODE),fuzz)
CC      := clang
CXX     := clang++
OPT     := -O1 -DDP_DEBUG
SAN     := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
else ifeq ($(MODE),cov)
OPT     := -O0
SAN     := --coverage
else ifneq ($(MODE),release)
$(error MODE is release, debug, asan, tsan, fuzz or cov, not $(MODE))
endif

# -ffp-contract=off: the kernels say themselves where a fused multiply-add stands, so that levels agree bit for bit.
WARN    := -Wall -Wextra -Wshadow -Wvla -Wmissing-prototypes -Wstrict-prototypes -Wpointer-arith -Wwrite-strings -Wformat=2 $(if $(findstring clang,$(CC)),,-Wno-format-truncation) $(if $(WERROR),-Werror)
WARNXX  := -Wall -Wextra $(if $(WERROR),-Werror)
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DDP_VERSION='"$(VERSION)"' -I. $(shell pkg-config --cflags $(LIBS) 2>/dev/null)
BASEFLAGS := $(OPT) -g -fno-omit-frame-pointer -fPIC -pthread -ffp-contract=off $(SAN)
ALL_CFLAGS := -std=c17 $(WARN) $(BASEFLAGS) $(CFLAGS)
ALL_CXXFLAGS := -std=c++17 $(WARNXX) $(BASEFLAGS) -fno-exceptions -fno-rtti $(CXXFLAGS)
MORE_LIBS := -lbz2 -lcld2 -lm -lpthread
ALL_LIBS := $(shell pkg-config --libs $(LIBS) 2>/dev/null) $(MORE_LIBS) $(LDLIBS)

# Instruction sets belong to suffixed files, and to nothing else.
ISA_avx2       := -mavx2 -mfma -mbmi -mbmi2 -mpopcnt -mlzcnt
ISA_avx512     := $(ISA_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mavx512vbmi -mavx512vbmi2 -mprefer-vector-width=512
ISA_avx512bf16 := $(ISA_avx512) -mavx512bf16
isa = $(if $(filter %_avx2.c,$1),$(ISA_avx2))$(if $(filter %_avx512.c,$1),$(ISA_avx512))$(if $(filter %_avx512bf16.c,$1),$(ISA_avx512bf16))

LIB_SRC  := $(sort $(foreach l,$(filter-out cli,$(LAYERS)),$(wildcard $l/*.c)))
LIB_CXX  := $(sort $(foreach l,$(LAYERS),$(wildcard $l/*.cc)))
CLI_SRC  := $(sort $(wildcard cli/*.c))
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/%.o) $(LIB_CXX:%.cc=$(BUILD)/%.oo)
CLI_OBJ  := $(CLI_SRC:%.c=$(BUILD)/%.o)
UNIT     := $(patsubst tests/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/unit/test_*.c tests/check/check_*.c tests/parity/*_parity.c)))
FUZZ     := $(patsubst tests/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
BENCH    := $(patsubst bench/%.c,$(BUILD)/bench/%,$(sort $(wildcard bench/bench_*.c)))
SHIMS    := $(patsubst tests/%.c,$(BUILD)/tests/%.so,$(sort $(wildcard tests/fault/shim_*.c)))
PROBE    := $(BUILD)/tests/fault/probe
PROG     := $(BUILD)/dpipe

.SECONDARY:
.PHONY: all lib tests benches objects help deps fault check-daemon-san check check-browser check-mpi check-clang check-fast parity parity-models lint fmt fuzz demo bench-pipeline bench-feed bench-tokenizer bench-curve bench-trainer check-systemd deb wheel install uninstall dist compdb cov clean man completions
.DEFAULT_GOAL := all

## all: the program, build/MODE/dpipe (the default)
all: $(PROG) $(BUILD)/libdpipe.so

lib: $(BUILD)/libdpipe.a
tests: $(UNIT) $(FUZZ) $(SHIMS) $(PROBE)
benches: $(BENCH)
objects: $(LIB_OBJ) $(CLI_OBJ) $(UNIT:=.o) $(FUZZ:=.o) $(BENCH:=.o) $(PROBE).o

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    $<")
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(call isa,$<) -MMD -MP -c $< -o $@

$(BUILD)/%.oo: %.cc
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX   $<")
	$(Q)$(CXX) $(CPPFLAGS) $(ALL_CXXFLAGS) -MMD -MP -c $< -o $@

# Its files are taken in by the assembler.
$(BUILD)/daemon/dashboard.o: $(wildcard daemon/dashboard/*)

$(BUILD)/libdpipe.a: $(LIB_OBJ)
	$(Q)rm -f $@; ar rcs $@ $^

$(BUILD)/libdpipe.so: $(LIB_OBJ)
	$(Q)$(CC) $(SAN) -shared -Wl,-soname,libdpipe.so.0 -o $@ $^ $(LDFLAGS) $(ALL_LIBS)

$(PROG): $(CLI_OBJ) $(BUILD)/libdpipe.a
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(CC) $(SAN) -o $@ $^ $(LDFLAGS) $(ALL_LIBS)

$(UNIT) $(PROBE): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libdpipe.a
	$(Q)$(CC) $(SAN) -o $@ $^ $(LDFLAGS) $(ALL_LIBS)
$(BENCH): $(BUILD)/bench/%: $(BUILD)/bench/%.o $(BUILD)/libdpipe.a
	$(Q)$(CC) $(SAN) -o $@ $^ $(LDFLAGS) $(ALL_LIBS)
ifeq ($(MODE),fuzz)
$(FUZZ): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/libdpipe.a
	$(Q)$(CC) $(SAN) -fsanitize=fuzzer -o $@ $^ $(LDFLAGS) $(ALL_LIBS)
else
$(FUZZ): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(BUILD)/tests/fuzz/replay.o $(BUILD)/libdpipe.a
	$(Q)$(CC) $(SAN) -o $@ $^ $(LDFLAGS) $(ALL_LIBS)
endif
$(SHIMS): $(BUILD)/tests/%.so: tests/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=c17 -O2 -g -fPIC -shared -o $@ $< -ldl -pthread

# --- checks ---

SH_TESTS := $(sort $(filter-out tests/fault/long.sh tests/fault/sanitized.sh,$(wildcard tests/cli/*.sh tests/golden/*.sh tests/fault/*.sh)))

# One job a core, unless make was told a number.
jobs = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$$(nproc 2>/dev/null || echo 1))
TSAN_SH := tests/golden/threads.sh

## check: lint, build with warnings as errors, run every test; the last line is "N passed, N failed"
check: lint
	@$(MAKE) --no-print-directory $(jobs) WERROR=1 all tests
	@$(MAKE) --no-print-directory $(jobs) WERROR=1 MODE=asan all tests
	@$(MAKE) --no-print-directory $(jobs) WERROR=1 MODE=tsan all tests
	@$(MAKE) --no-print-directory check-clang
	@echo "address and undefined-behaviour sanitizers:"; tests/run.sh build/asan $(UNIT:$(BUILD)/%=build/asan/%) $(FUZZ:$(BUILD)/%=build/asan/%) > build/check-asan.log; s=$$?; cat build/check-asan.log | sed '$$s/^/asan: /'; exit $$s
	@echo "thread sanitizer:"; tests/run.sh build/tsan $(patsubst %,build/tsan/tests/unit/%,$(TSAN_TESTS)) $(TSAN_SH) > build/check-tsan.log; s=$$?; cat build/check-tsan.log | sed '$$s/^/tsan: /'; exit $$s
	@echo "the service under sanitizers:"; for m in asan tsan; do DP_SECONDS=3 tests/fault/sanitized.sh build/$$m tests/fault/conserve.sh > build/check-san.log; s=$$?; sed "s/^\([0-9]* passed\)/$$m: \1/" build/check-san.log; [ $$s = 0 ] || exit $$s; done
	@echo "release:"; tests/run.sh $(BUILD) $(UNIT) $(FUZZ) $(SH_TESTS)

## fault: the long form of tests/fault: thousands of kills, 200 power cuts, every call failing in turn (hours); FAULTS=kills,power,... for some of them
fault: all tests
	@tests/fault/long.sh $(BUILD) $(FAULTS)

## check-daemon-san: the service's and the feed's tests with programs built for address, undefined-behaviour and thread sanitizers; SANS="asan tsan"
SANS    ?= asan tsan
SAN_SH  := tests/cli/serve.sh tests/cli/serve_http.sh tests/cli/feed_serve.sh tests/fault/conserve.sh tests/fault/kills.sh tests/fault/sources.sh tests/fault/worker_crash.sh
check-daemon-san:
	@for m in $(SANS); do $(MAKE) --no-print-directory $(jobs) WERROR=1 MODE=$$m all tests || exit 1; done
	@for m in $(SANS); do echo "$$m:"; tests/fault/sanitized.sh build/$$m $(SAN_SH) || exit 1; done

## check-systemd: boot the package in a minimal Debian under systemd-nspawn (root, mmdebstrap, a mirror)
check-systemd: all
	@tests/systemd/boot.sh

## check-browser: the dashboard in Chromium by playwright-core (installed where that is possible); screenshots in build/browser
check-browser: all $(SHIMS)
	@tests/browser/run.sh

## check-clang: compile everything with clang, warnings as errors, in build/clang; says so where there is no clang
check-clang:
	@if command -v clang >/dev/null && command -v clang++ >/dev/null; then echo "clang:" && $(MAKE) --no-print-directory $(jobs) BUILD=build/clang OPT=-O0 CC=clang CXX=clang++ WERROR=1 objects >build/check-clang.log && echo "  ok    no warning"; \
	else echo "skip check-clang: clang isn't installed"; fi

## check-mpi: train-bpe and train over several processes (needs mpicc and mpirun)
check-mpi:
	@if command -v mpicc >/dev/null && command -v mpirun >/dev/null; then $(MAKE) $(jobs) --no-print-directory MPI=1 all && tests/run.sh build/$(MODE)-mpi tests/cli/train_bpe_mpi.sh tests/cli/train_mpi.sh; else echo "skip check-mpi: no mpicc or mpirun"; fi

## parity: compare with the packages of others (Hugging Face, tiktoken, Megatron, datatrove...), which tools/venv.sh installs in build/venv
parity: all lib $(BUILD)/bench/bench_ingest $(BUILD)/tests/parity/clean_parity
	@PYTHON=$$(tools/venv.sh) && export PYTHON PYTHONDONTWRITEBYTECODE=1 && tests/run.sh $(BUILD) $(filter-out %/lib.py %/models.py,$(sort $(wildcard tests/parity/*.py)))

## parity-models: models that come in and go out beside transformers, gguf and llama.cpp (build/venv-models; torch from build/venv-trainer, 6 GB)
parity-models: all lib
	@if [ ! -e tools/venv-trainer.txt ]; then echo "skip parity-models: no tools/venv-trainer.txt, which has torch"; exit 0; fi; \
	TORCH=$$(tools/venv.sh trainer) && PYTHON=$$(tools/venv.sh models) && PYTHONPATH=$$($$TORCH -c 'import site; print(site.getsitepackages()[0])') && \
	export PYTHON PYTHONPATH PYTHONDONTWRITEBYTECODE=1 && tests/run.sh $(BUILD) tests/parity/models.py

## demo: the whole road on real documents, in build/demo; CORPUS=PATH takes another folder, archive or WARC file
demo: all
	@CORPUS='$(CORPUS)' tools/demo.sh

## bench-pipeline: the whole road on a .warc.gz of real pages in CPU seconds; PEERS=1 installs datatrove in build/venv and runs its road too
bench-pipeline: all
	@PEERS='$(PEERS)' bench/pipeline.sh

## bench-feed: ids per CPU-second of the feed in C, through ring and TCP, compressed and in Python; PEERS=1 installs PyTorch and other feeds in build/venv-feed (7 GB) and races them
bench-feed: all $(BUILD)/bench/bench_feed $(BUILD)/bench/bench_shards
	@BUILD='$(BUILD)' PEERS='$(PEERS)' bench/feed.sh

## bench-tokenizer: training, encoding and decoding beside tiktoken, Hugging Face, gigatoken, fastokens and rustbpe (installed in build/venv-tokenizer), and what must hold; CORPUS=FILE CODE=FILE LIMIT=BYTES RUNS=3
bench-tokenizer: all
	@BUILD='$(BUILD)' CORPUS='$(CORPUS)' CODE='$(CODE)' LIMIT='$(LIMIT)' RUNS='$(RUNS)' bench/tokenizer.sh

## bench-curve: 200 updates of the 10M reference curve beside PyTorch's losses; CURVE=FOLDER has its data (bench/curve.sh)
bench-curve: all
	@BUILD='$(BUILD)' CURVE='$(CURVE)' bench/curve.sh

## bench-trainer: training steps beside PyTorch's (installed in build/venv-trainer, 6 GB; TORCH=PYTHON names an interpreter that has it), and what must hold; RUNS=3 STEPS=5 ARGS="--shapes 10m"
bench-trainer: all
	@BUILD='$(BUILD)' TORCH='$(TORCH)' RUNS='$(RUNS)' STEPS='$(STEPS)' bench/trainer.sh $(ARGS)

## check-fast: the unit tests of this MODE alone
check-fast: all tests
	@tests/run.sh $(BUILD) $(UNIT) $(FUZZ)

# Programs whose code runs on several threads.
TSAN_TESTS := $(filter test_abi test_encode_threads test_tokenizer_abi test_base test_log test_stop test_catalog test_pipeline test_ordered test_dedup test_manifest test_shard test_shard_packed test_feed test_feed_server test_feed_tcp test_channel test_control test_sandbox test_serve_process test_worker test_openapi test_http_stream test_history test_dedup_growth test_parallel,$(notdir $(UNIT)))

## lint: folder layers, style
lint:
	@tools/layers.sh
	@tools/style.sh

## fmt: clang-format over the lines of C that changed since HEAD (tables and aligned lists elsewhere stay as they are)
fmt:
	git clang-format --extensions c,h HEAD

## fuzz: build MODE=fuzz targets; run one: build/fuzz/tests/fuzz/fuzz_X tests/fuzz/corpus/X
fuzz:
	@$(MAKE) --no-print-directory MODE=fuzz $(FUZZ:$(BUILD)/%=build/fuzz/%)

# --- installing ---

## install: program, library, headers, dpipe.pc, man pages, completions and the systemd unit under DESTDIR/PREFIX
install: all man
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include/dpipe $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m755 $(PROG) $(DESTDIR)$(PREFIX)/bin/dpipe
	install -m644 $(BUILD)/libdpipe.a $(DESTDIR)$(PREFIX)/lib/
	install -m755 $(BUILD)/libdpipe.so $(DESTDIR)$(PREFIX)/lib/libdpipe.so.0
	ln -sf libdpipe.so.0 $(DESTDIR)$(PREFIX)/lib/libdpipe.so
	for d in base trainer_feed tokenizer; do install -d $(DESTDIR)$(PREFIX)/include/dpipe/$$d; done
	install -m644 base/err.h base/hash.h base/span.h base/opt.h base/buf.h $(DESTDIR)$(PREFIX)/include/dpipe/base/
	install -m644 trainer_feed/feed.h trainer_feed/feed_client.h trainer_feed/feed_server.h $(DESTDIR)$(PREFIX)/include/dpipe/trainer_feed/
	install -m644 tokenizer/tokenizer_abi.h $(DESTDIR)$(PREFIX)/include/dpipe/tokenizer/
	install -m644 build/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	sed -e 's,@VERSION@,$(VERSION),' -e 's,@LIBS@,$(LIBS),' -e 's,@MORE@,$(MORE_LIBS),' -e 's,@ALL@,$(ALL_LIBS),' tools/dpipe.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/dpipe.pc
	$(PROG) help --completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/dpipe
	install -d $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d $(DESTDIR)$(PREFIX)/share/doc/dpipe/examples $(DESTDIR)$(PREFIX)/lib/systemd/system
	$(PROG) help --completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_dpipe
	$(PROG) help --completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/dpipe.fish
	sed 's,@bindir@,$(PREFIX)/bin,' packaging/dpipe.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/dpipe.service
	install -m644 packaging/recipe.yaml $(DESTDIR)$(PREFIX)/share/doc/dpipe/examples/
	install -m644 README.md docs/daemon.md docs/metrics.md docs/c-api.md docs/models.md docs/tokenizer-report.md docs/train.md $(DESTDIR)$(PREFIX)/share/doc/dpipe/

## uninstall: take it away again
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/dpipe $(DESTDIR)$(PREFIX)/lib/libdpipe.* $(DESTDIR)$(PREFIX)/lib/pkgconfig/dpipe.pc $(DESTDIR)$(PREFIX)/share/man/man1/dpipe*.1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions/dpipe
	rm -f $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_dpipe $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/dpipe.fish $(DESTDIR)$(PREFIX)/lib/systemd/system/dpipe.service
	rm -rf $(DESTDIR)$(PREFIX)/include/dpipe $(DESTDIR)$(PREFIX)/share/doc/dpipe

## man: man pages, generated from the option tables, in build/man
man: $(PROG)
	@mkdir -p build/man
	@rm -f build/man/*; $(PROG) help --man dpipe > build/man/dpipe.1
	@for c in $$($(PROG) help --commands); do $(PROG) help --man $$c > build/man/dpipe-$$c.1; done

## deb: a Debian package, build/dpipe_VERSION_ARCH.deb (dpkg-deb; checked by lintian where that is installed)
deb: all man
	@tools/make-deb.sh $(VERSION) $(PROG)

## wheel: the Python package with this library in it, build/wheel/dpipe-VERSION-py3-none-PLATFORM.whl
wheel: all lib
	@CC='$(CC)' tools/make-wheel.sh $(BUILD)/libdpipe.so $(BUILD)/libdpipe.a

## dist: a source archive, build/dpipe-VERSION.tar.gz
dist:
	@mkdir -p build
	git archive --format=tar.gz --prefix=dpipe-$(VERSION)/ -o build/dpipe-$(VERSION).tar.gz HEAD

COMPDB ?= compile_commands.json
## compdb: compile_commands.json for editors
compdb:
	@$(MAKE) -n -B V=1 all tests 2>/dev/null | tools/compdb.sh > $(COMPDB)

## cov: line coverage of the unit tests (gcov), in build/cov
cov:
	@$(MAKE) --no-print-directory MODE=cov check-fast
	@cd build/cov && find . -name '*.gcda' -exec gcov -r -s $(CURDIR) {} + 2>/dev/null | tail -1

## deps: install the packages that are missing
deps:
	tools/install-deps.sh

## clean: remove build/
clean:
	rm -rf build

-include $(patsubst %.oo,%.d,$(LIB_OBJ:.o=.d)) $(CLI_OBJ:.o=.d) $(UNIT:=.d) $(FUZZ:=.d) $(BENCH:=.d) $(PROBE).d

endif # DP_REPLACED

## help: this list
help:
	@sed -n 's/^## \([a-z-]*\): \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18
