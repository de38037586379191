# Silverback. `make help` lists what there is to do; nothing here needs a configure step.
#
# Programs land in $(BUILD)/bin. A folder is a library, a program is its folder's main.c and the
# libraries below it; new .c files are found by themselves. SANITIZE=address,undefined (or thread)
# rebuilds everything so, beside the plain build. WERROR= (empty) is for packagers.

BUILD    ?= build
SANITIZE ?=
WERROR   ?= -Werror
comma    := ,
OUT      := $(BUILD)$(if $(SANITIZE),/$(subst $(comma),-,$(SANITIZE)))
PYTHON   ?= /usr/bin/python3
VERSION  := 0.1.0

PKGS    := libevent libevent_openssl libevent_pthreads libpq libcurl openssl json-c yaml-0.1 \
           libnghttp2 libpcre2-8 libcares zlib ldap luajit hiredis
CFLAGS  ?= -O2 -g
WARN    := -Wall -Wextra -Wshadow -Wundef -Wvla -Wformat=2 -Wwrite-strings -Wstrict-prototypes \
           -Wmissing-prototypes -Wno-missing-field-initializers $(WERROR)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DSB_VERSION='"$(VERSION)"' -I. $(WARN) $(CFLAGS) \
             $(PKG_CFLAGS) -pthread -fno-omit-frame-pointer \
             $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all)
ALL_LDFLAGS = $(LDFLAGS) -pthread -rdynamic $(if $(SANITIZE),-fsanitize=$(SANITIZE))
ALL_LIBS    = $(PKG_LIBS) -lm -ldl

# Folders in the order in which they may include each other: right may include left.
LIBS     := shared schema migrations controlplane dataplane
PROGRAMS := $(patsubst %/main.c,silverback-%,$(wildcard migrations/main.c controlplane/main.c dataplane/main.c))

sources   = $(filter-out $(1)/main.c,$(wildcard $(1)/*.c $(1)/*/*.c $(1)/*/*/*.c))
objects   = $(patsubst %.c,$(OUT)/obj/%.o,$(1))
archives  = $(patsubst %,$(OUT)/lib/%.a,$(1))
HEADERS  := $(wildcard include/silverback/*.h $(foreach d,$(LIBS),$(d)/*.h $(d)/*/*.h $(d)/*/*/*.h))
UNITS    := $(patsubst tests/unit/test_%.c,%,$(wildcard tests/unit/test_*.c))
FUZZERS  := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

.DEFAULT_GOAL := all
.PHONY: all help deps run test unit system cluster conformance bench bench-consumers fuzz asan tsan format \
        format-check lint headers layers clean deps-quick fuzz-programs soak

all: deps-quick $(patsubst %,$(OUT)/bin/%,$(PROGRAMS)) ## build the programs into build/bin

# -- building -----------------------------------------------------------------------------------

define library
$(OUT)/lib/$(1).a: $(call objects,$(call sources,$(1)))
	@mkdir -p $$(@D) && rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach d,$(LIBS),$(eval $(call library,$(d))))

# Embedded SQL and other text is pulled in by .incbin, which the compiler's dependencies miss.
$(OUT)/obj/migrations/list.o: $(wildcard migrations/*/*.sql)
$(OUT)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "  cc   $<"; )$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# A plane links what lies below it, never the other plane.
below = $(if $(filter migrations,$(1)),migrations schema shared,$(1) $(if $(filter dataplane,$(1)),migrations) schema shared)
define program
$(OUT)/bin/silverback-$(1): $(OUT)/obj/$(1)/main.o $(call archives,$(call below,$(1)))
	@mkdir -p $$(@D)
	@echo "  link $$@"; $$(CC) $$(ALL_LDFLAGS) -o $$@ $$(OUT)/obj/$(1)/main.o \
	    -Wl,--start-group $(call archives,$(call below,$(1))) -Wl,--end-group $$(ALL_LIBS)
endef
$(foreach p,migrations controlplane dataplane,$(eval $(call program,$(p))))

$(OUT)/tests/test_%: $(OUT)/obj/tests/unit/test_%.o $(call archives,$(LIBS))
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(call archives,$(LIBS)) -Wl,--end-group \
	    $(ALL_LIBS) -lcmocka

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
.PRECIOUS: $(OUT)/obj/%.o
.SECONDARY:

# -- what a fresh machine needs -----------------------------------------------------------------

deps: ## install what building and testing need (Debian 12; quiet when nothing is missing)
	@scripts/deps.sh build test
deps-quick:
	@pkg-config --exists $(PKGS) 2>/dev/null || scripts/deps.sh build

# -- running ------------------------------------------------------------------------------------

run: deps all ## both planes on examples/quickstart, with a private PostgreSQL; Ctrl-C stops it all
	@$(PYTHON) scripts/run.py

# -- tests --------------------------------------------------------------------------------------

test: deps ## everything: unit, system, conformance, cluster
	@scripts/test.sh

# The bench program is built here, too, so that it does not rot between two measurings.
unit: $(patsubst %,$(OUT)/tests/test_%,$(UNITS)) $(OUT)/bench/build_routes ## run the unit tests (T=name for one)
	@scripts/run-units.sh $(OUT)/tests $(if $(T),$(T),$(UNITS))

PYTEST = $(PYTHON) -m pytest -q -p no:cacheprovider $(if $(T),-k '$(T)')
system: all ## run the system tests: real PostgreSQL, real programs (T=words to choose)
	@BUILD=$(OUT) $(PYTEST) tests/system
conformance: all ## compare with recorded answers of Kong and of its ingress controller
	@BUILD=$(OUT) $(PYTEST) tests/conformance
cluster: all ## run the tests that need a Kubernetes API (builds etcd and kube-apiserver once)
	@tests/cluster/build.sh
	@BUILD=$(OUT) tests/cluster/netns.sh $(PYTEST) tests/cluster

asan: ## units under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory unit SANITIZE=address,undefined
tsan: ## units under ThreadSanitizer
	@$(MAKE) --no-print-directory unit SANITIZE=thread

# Fuzz targets need clang. A corpus stays in tests/fuzz/corpus/NAME. TIME=seconds each.
TIME ?= 10
SEED ?= 0
FUZZ_SANITIZE := fuzzer-no-link,address,undefined
FUZZ_OUT := $(BUILD)/$(subst $(comma),-,$(FUZZ_SANITIZE))
$(OUT)/fuzz/%: $(OUT)/obj/tests/fuzz/fuzz_%.o $(call archives,$(LIBS))
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $< -Wl,--start-group $(call archives,$(LIBS)) \
	    -Wl,--end-group $(ALL_LIBS)
fuzz-programs: $(patsubst %,$(OUT)/fuzz/%,$(if $(T),$(T),$(FUZZERS)))
fuzz: ## fuzz the parsers (T=name, TIME=seconds, SEED=number to repeat a run)
	@$(MAKE) --no-print-directory fuzz-programs CC=clang WERROR= SANITIZE=$(FUZZ_SANITIZE)
	@scripts/fuzz.sh $(FUZZ_OUT)/fuzz $(TIME) $(SEED) $(if $(T),$(T),$(FUZZERS))

# -- benchmarks ---------------------------------------------------------------------------------

$(OUT)/bench/%: $(OUT)/obj/tests/bench/%.o $(call archives,$(LIBS))
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(call archives,$(LIBS)) -Wl,--end-group \
	    $(ALL_LIBS)
bench: all $(OUT)/bench/build_routes ## CPU per request and propagation, beside nginx and HAProxy in one run
	@scripts/deps.sh bench
	@$(PYTHON) tests/bench/bench.py $(ARGS)

N       ?= 1000000
CHANGES ?= none
soak: all ## N proxied requests of all kinds; SANITIZE=... CHANGES=none|dbless|postgres
	@BUILD=$(OUT) $(PYTHON) tests/bench/soak.py $(N) $(CHANGES)
bench-consumers: all ## keys of up to ten million consumers: cost, memory, guessed keys, changes (takes a while)
	@scripts/deps.sh bench test
	@nice $(PYTHON) tests/bench/consumers.py $(ARGS)

# -- keeping the house --------------------------------------------------------------------------

C_FILES = $(wildcard $(foreach d,$(LIBS),$(d)/*.[ch] $(d)/*/*.[ch] $(d)/*/*/*.[ch]) tests/unit/*.[ch] tests/fuzz/*.[ch] tests/bench/*.[ch] \
             include/silverback/*.h examples/plugin/*.c)

format: ## let clang-format have its way
	@clang-format -i $(C_FILES)
format-check:
	@clang-format --dry-run -Werror $(C_FILES)
headers: $(patsubst %,$(OUT)/hdr/%.ok,$(HEADERS)) ## every header compiles alone
$(OUT)/hdr/%.ok: %
	@mkdir -p $(@D)
	@echo '#include "$<"' | $(CC) $(ALL_CFLAGS) -fsyntax-only -x c - && touch $@
layers: ## includes point down, never up, never between the planes
	@$(PYTHON) scripts/layers.py $(LIBS)
lint: ## our own past mistakes, banned functions, and a ceiling on length
	@$(PYTHON) scripts/lint.py $(LIBS)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
	    awk -F'\t' '{ printf "  %-12s %s\n", $$1, $$2 }'

clean: ## remove what was built (but for build/cluster, which takes minutes)
	rm -rf $(BUILD)/obj $(BUILD)/lib $(BUILD)/bin $(BUILD)/tests $(BUILD)/hdr $(BUILD)/bench \
	    $(BUILD)/address-undefined $(BUILD)/thread $(FUZZ_OUT)
