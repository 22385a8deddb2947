.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo
# Where cargo puts what it builds.
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
# Always the whole workspace, tests' dependencies included: another selection means other features, and everything
# would be built a second time.
WORKSPACE := --workspace --locked

.PHONY: help
help: ## What can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## All programs, into target/debug
	$(CARGO) build $(WORKSPACE) --bins --examples

.PHONY: check
check: lint ## The bar of every commit: format, lints, unit tests, repository rules (no cluster)
	$(CARGO) test $(WORKSPACE) --quiet --lib --test tidy --test crds --test compat --test judgement --test shipped --test original_faults --test own_faults --test stories --test check

.PHONY: lint
lint: ## Format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(WORKSPACE) --all-targets --quiet -- -D warnings

.PHONY: deny
deny: ## Licences, bans and sources of every dependency, by cargo-deny; advisories where their database can be fetched
	@cargo deny --version || { echo "make deny needs cargo-deny: cargo install cargo-deny --locked" >&2; exit 1; }
	for manifest in Cargo.toml fuzz/Cargo.toml; do \
	  cargo deny --workspace --locked --manifest-path $$manifest --config deny.toml --log-level error check licenses bans sources || exit 1; \
	done
	@if cargo deny --log-level off fetch db; then cargo deny --workspace --locked check --disable-fetch advisories; \
	else echo "advisories were not checked: their database (github.com/RustSec/advisory-db) cannot be fetched from here"; fi

.PHONY: test
test: ## Everything: unit, property and cluster tests, each level counted
	tests/run

.PHONY: test-compat
test-compat: build ## Chart, controller and plugin on the oldest Kubernetes that is supported, 1.33 (not in CI)
	KUBERVISOR_TEST_KUBERNETES=1.33 $(BIN)/localcluster tools
	KUBERVISOR_TEST_KUBERNETES=1.33 $(CARGO) test $(WORKSPACE) --no-fail-fast \
	  --test chart --test control_plane --test cluster --test kubectl -- --test-threads=6

.PHONY: sim
sim: ## The controller on simulated clusters: SEEDS=n hunts (default 1000), SEED=n plays one and prints it
	SEEDS=$(or $(SEEDS),1000) $(CARGO) test $(WORKSPACE) --quiet --test simulation every_seed -- --nocapture

.PHONY: mutants
mutants: ## Ways to decide wrongly, and the checker of the simulator that catches each (MUTANT=words: only those)
	$(CARGO) test $(WORKSPACE) --quiet --test simulation every_mutation -- --nocapture

.PHONY: fuzz
fuzz: ## Looks for inputs that break what reads them: TIME=n seconds for each target (default 60)
	@cargo fuzz --version || { echo "make fuzz needs cargo-fuzz: cargo install cargo-fuzz --locked" >&2; exit 1; }
	cd fuzz && for target in $$(cargo fuzz list --fuzz-dir .); do \
	  mkdir -p target/found/$$target && \
	  cargo fuzz run --fuzz-dir . --sanitizer none $$target target/found/$$target corpus/$$target -- \
	    -max_total_time=$(or $(TIME),60) -max_len=4096 -timeout=10 -print_final_stats=1; \
	done

.PHONY: tools
tools: build ## The control plane's programs (CI=true: a real node's too); built from their Go modules once, 17 minutes
	$(BIN)/localcluster tools $(if $(filter true,$(CI)),--node)

.PHONY: demo
demo: build ## Watch it work: a control plane, a shop, five incidents (KEEP=1 leaves it running)
	$(BIN)/demo

.PHONY: e2e
e2e: build ## The chart on a real node: pods, kube-proxy, clients, incidents (root and Linux; 3 minutes after builds)
	$(BIN)/e2e --seconds $(BIN)/e2e-seconds.txt

# Name and tag of the image.
IMAGE ?= kubervisor:$(shell awk -F '"' '/^version = / {print $$2; exit}' Cargo.toml)

.PHONY: image
image: ## The controller's image (IMAGE=name:tag, BASE= and BUILDER= other bases, WITH= docker, podman or buildah)
	@with="$(WITH)"; for tool in docker podman buildah; do \
	  if test -z "$$with" && "$$tool" info > /dev/null 2>&1; then with="$$tool"; fi; \
	done; \
	test -n "$$with" || { echo "make image needs docker with its daemon, podman or buildah: none of them works here" >&2; exit 1; }; \
	echo "$$with builds $(IMAGE)"; \
	DOCKER_BUILDKIT=1 "$$with" build --tag "$(IMAGE)" $(if $(BUILDER),--build-arg "BUILDER=$(BUILDER)") $(if $(BASE),--build-arg "BASE=$(BASE)") \
	  --build-arg "VERSION=$(or $(word 2,$(subst :, ,$(notdir $(IMAGE)))),latest)" --build-arg "REVISION=$$(git rev-parse HEAD || echo unknown)" .

.PHONY: readme
readme: build ## Runs the demo; its promises, some lines and what kubectl kubervisor showed go into README.md
	mkdir -p $(BIN)/readme
	$(BIN)/demo --promises-file $(BIN)/readme/promises.txt --pictures $(BIN)/readme | tee $(BIN)/readme/demo.txt
	awk '/ scene 2 / { on = 1 } on { print } / cut by prices/ { priced = 1 } / restored / { back = 1 } priced && back { exit }' \
	  $(BIN)/readme/demo.txt > $(BIN)/readme/lines.txt
	awk -v from=$(BIN)/readme ' \
	  /^<!-- end of / { skip = 0 } \
	  !skip { print } \
	  /^<!-- (promises|lines|get|explain|watch) -->/ { \
	    skip = 1; file = from "/" $$2 ".txt"; some = 0; print "```text"; \
	    while ((getline line < file) > 0) { print line; some = 1 } \
	    print "```"; if (!some) { print "nothing in " file > "/dev/stderr"; exit 1 } }' \
	  README.md > $(BIN)/readme/README.md
	cp $(BIN)/readme/README.md README.md

.PHONY: crds
crds: build ## Writes crds/ from the types
	$(BIN)/kubervisor crds > crds/kubervisorservices.yaml
	cp crds/kubervisorservices.yaml charts/kubervisor/files/

.PHONY: reference
reference: ## Writes docs/reference/ from the schema, the flags and the plugin's verbs and rules
	KUBERVISOR_GENERATE=1 $(CARGO) test $(WORKSPACE) --quiet --test crds --test shipped --test check reference

.PHONY: chart
chart: ## Writes tests/chart/: what helm makes of the chart
	KUBERVISOR_GENERATE=1 $(CARGO) test $(WORKSPACE) --quiet --test chart

.PHONY: judge
judge: ## How good are the verdicts: docs/reference/judgement.md (INCIDENTS=dir prints the tables of your own files)
	$(CARGO) build $(WORKSPACE) --quiet --bins
	$(BIN)/judge $(if $(INCIDENTS),--incidents "$(INCIDENTS)",--page docs/reference/judgement.md)

.PHONY: bench
bench: ## How fast, as ratios to what is usual: docs/reference/benchmarks.md (ROUNDS=n, default 15)
	$(CARGO) build --release --locked --package kubectl-kubervisor --package bench
	$(RELEASE)/bench --rounds $(or $(ROUNDS),15) --page docs/reference/benchmarks.md

.PHONY: fixtures
fixtures: build ## Records the answers of a real Prometheus that the tests use
	$(BIN)/examples/record_prometheus
	$(BIN)/examples/record_increase

.PHONY: install-plugin
install-plugin: ## kubectl kubervisor, to where cargo puts programs (~/.cargo/bin)
	$(CARGO) install --path plugin --locked

.PHONY: krew-archive
krew-archive: ## Packs kubectl kubervisor for krew, with its manifest, into target/krew (ADDRESS=where it can be had)
	$(CARGO) build --release --locked --package kubectl-kubervisor
	plugin/krew/archive $(RELEASE)/kubectl-kubervisor $(or $(CARGO_TARGET_DIR),target)/krew $(ADDRESS)

.PHONY: man
man: build ## Man pages of kubectl kubervisor, into target/man
	$(BIN)/kubectl-kubervisor man $(or $(CARGO_TARGET_DIR),target)/man

.PHONY: clean
clean: ## Removes what was built here (the control plane's programs stay in the user's cache)
	$(CARGO) clean
