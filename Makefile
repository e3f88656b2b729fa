# Ferry: one word for each thing that people do here. CMake builds (see CMakePresets.json).
#
#     make demo    the main job, shown on this machine: a path fails, the application goes on
#     make test    everything that is checked
#     make ci      what CI adds to it: ten thousand fresh seeds, a minute of each fuzzer
#     make test-vm reservations, a cluster, ublk and nbd through kernels of their own, in emulated guests
#     make fuzz    a minute of each fuzzer, from a fresh seed
#     make bench   Ferry's NBD beside others', and the way through a peer beside sockets, in turns
#     make soak    fresh seeds of the simulator and cuts in the lab, until stopped
#     make museum  known mistakes, each put into the core, and the seed that finds it out
#     make mutation  small mistakes in the core, a sample, and which of them no test notices
#     make build   build/bin/*;  make clean removes all that was built
#
# On a fresh Debian 12 each first installs what is missing (deploy/install-deps.sh).
PRESET ?= plain
JOBS ?= $(shell nproc)
VM ?= .
TREE := $(patsubst build-plain,build,build-$(PRESET))

.PHONY: all build test ci test-unit test-vm tidy demo bench soak fuzz museum mutation deps clean
all: build

deps:
	deploy/install-deps.sh

build:
	deploy/install-deps.sh build test
	cmake --preset $(PRESET)
	cmake --build --preset $(PRESET) -j $(JOBS)

test: deps
	JOBS=$(JOBS) tests/all

ci: build
	JOBS=$(JOBS) tests/ci

# What needs no cluster and no stock client; PRESET=asan, tsan, clang, coverage work too.
test-unit: build
	ctest --preset $(PRESET) -L '^(unit|sim|fuzz)$$' -j $(JOBS)

# Slow, for the guests are emulated: the kernel's own iSCSI target, initiator and multipath.
# `make PRESET=asan VM=rdma test-vm`: those whose name has rdma in it, with the sanitizers' build.
test-vm: build
	deploy/install-deps.sh vm
	ctest --test-dir $(TREE) -L '^vm$$' -R '$(VM)' --verbose

tidy: build
	tests/tidy/tidy.py

demo: deps build
	deploy/demo/run.sh

bench: deps build
	tests/bench/run
	tests/bench/detour

soak: deps build
	tests/soak

fuzz: deps
	JOBS=$(JOBS) tests/fuzz/run.sh

museum: build
	JOBS=$(JOBS) tests/museum/run

mutation: deps
	tests/mutation/mutate.py --jobs $(JOBS)

clean:
	rm -rf build build-*
