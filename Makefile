.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help
help: ## What can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: check
check: ## The bar of every commit: format, lints, unit tests (no cluster)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) test --workspace --lib --bins --quiet
	$(CARGO) test --quiet --test tidy --test crds
