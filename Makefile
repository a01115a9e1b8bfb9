# Everything runs in .venv, made here from pinned versions; nothing needs to be installed by hand.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= requirements/constraints.txt
STAMP := $(VENV)/.installed
# TORCH=1 also installs PyTorch and transformers, for DataLoader workers and labels; without it their tests are skipped.
TORCH ?=

# The browser of the viewer's tests, which are skipped without one: any of these, for example Debian's `chromium`.
CHROMIUM ?= $(shell command -v chromium chromium-browser google-chrome | head -n 1)
export SA1B_HF_CHROMIUM := $(CHROMIUM)

.PHONY: help demo test test-datasets3 quality types bench fuzz notebooks pictures clean

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

$(VENV)/.package: setup.cfg setup.py pyproject.toml $(CONSTRAINTS) $(wildcard sa1b_hf/*.c sa1b_hf/*.h)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet setuptools -c $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable . -c $(CONSTRAINTS)
	touch $@

$(STAMP): $(VENV)/.package requirements/dev.txt
	$(BIN)/python -m pip install --quiet -r requirements/dev.txt -c $(CONSTRAINTS)
	touch $@

$(VENV)/.torch: $(STAMP)
	$(BIN)/python -m pip install --quiet torch transformers -c $(CONSTRAINTS)
	touch $@

demo: $(VENV)/.package  ## stream the embedded sample and draw one example's masks
	$(BIN)/python -m sa1b_hf.demo --out demo

test: $(STAMP) $(if $(TORCH),$(VENV)/.torch)  ## run all tests
	@test -n "$(CHROMIUM)" || echo "No Chromium was found: the viewer's browser tests are skipped."
	$(BIN)/python -m pytest $(ARGS)

test-datasets3:  ## run the builder's tests with datasets 3.6, in an environment of its own
	$(MAKE) VENV=.venv-datasets3 CONSTRAINTS=requirements/constraints-datasets3.txt test \
	  ARGS="tests/test_builder.py tests/test_streaming.py tests/test_loading_script.py tests/test_reader.py \
	  tests/test_parts.py tests/test_resume.py tests/test_convert.py tests/test_dataset_index.py tests/test_labels.py \
	  tests/test_hub.py tests/test_card.py $(ARGS)"

quality: $(STAMP)  ## formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)  ## static types of the package
	$(BIN)/mypy

bench: $(STAMP) $(if $(TORCH),$(VENV)/.torch)  ## compare with other readers, in one run on the same shards
	$(BIN)/python -m pip install --quiet -r requirements/bench.txt -c $(CONSTRAINTS)
	$(BIN)/python benchmarks/bench_reader.py $(ARGS)
	$(BIN)/python benchmarks/bench_rle.py
	if $(BIN)/python -c "import torch" 2>/dev/null; then \
	  $(BIN)/python benchmarks/bench_masks.py && $(BIN)/python benchmarks/bench_rle_torch.py --images 4 --rounds 3; \
	else echo "end to end, and on the GPU: left out, because torch is not installed (make bench TORCH=1)"; fi
	$(BIN)/python benchmarks/bench_viz.py
	$(BIN)/python benchmarks/bench_memory.py
	$(BIN)/python benchmarks/bench_download.py --size-mb 256 --throttle-mb 40
	$(BIN)/python benchmarks/bench_gzsync.py --images 1600
	$(BIN)/python benchmarks/bench_convert.py --images 1000
	if $(BIN)/python -c "import torch, transformers" 2>/dev/null; then $(BIN)/python benchmarks/bench_labels.py --masks 8; \
	else echo "labels: left out, because torch and transformers are not installed (make bench TORCH=1)"; fi

notebooks: $(STAMP) $(VENV)/.torch  ## run the notebooks and keep their outputs
	for notebook in notebooks/*.ipynb; do \
	  HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 $(BIN)/python tests/support/run_notebook.py --save $$notebook; done

pictures: $(STAMP)  ## make the pictures of the documentation anew; needs a Chromium
	$(BIN)/python docs/make_pictures.py docs/pictures

fuzz: $(STAMP)  ## a million malformed masks under AddressSanitizer and UBSan, about a minute
	SA1B_HF_FUZZ_STRINGS=1000000 $(BIN)/python -m pytest tests/test_rle_fuzz.py --timeout 1200

clean:  ## remove what the other targets made
	rm -rf $(VENV) .venv-datasets3 build demo *.egg-info sa1b_hf/*.so
