#!/bin/bash
# install-deps.sh - install from Debian's packages what is missing, and nothing else.
#
#     deploy/install-deps.sh [GROUP...]     groups: build, test, lab, vm; without: all but vm
#
# Fast when nothing is missing. Starts no service, and leaves those that run alone. Needs root or
# sudo only when something is missing. Exits 0 when all is there, 1 when it could not be.
# FERRY_DEPS=skip leaves the machine alone (for systems whose packages have other names).
set -euo pipefail

build=(
	build-essential cmake ninja-build pkg-config # the compiler and what drives it
	libisal-dev                                  # CRC32C
	liburing-dev                                 # local devices, and the data thread's loop
	libiscsi-dev                                 # iSCSI paths
	libibverbs-dev librdmacm-dev                 # RDMA between agents
	libnl-3-dev libnl-genl-3-dev                 # devices of the kernel's NBD client
	libfuse3-dev fuse3                           # volumes as files; fusermount3
	libqb-dev                                    # the cluster thread's loop, logs, blackbox
	libcorosync-common-dev libcpg-dev libquorum-dev # membership
	libvotequorum-dev libcmap-dev libcfg-dev     # votes and names of nodes
	libgrpc-dev                                  # the control plane
	libprotobuf-c-dev protobuf-c-compiler protobuf-compiler # its messages
	libssl-dev                                   # proofs between agents
	libinih-dev                                  # configuration files
	libjson-c-dev                                # answers as JSON
)
test=(
	libcmocka-dev                                # unit tests
	clang libclang-rt-14-dev clang-format        # the other compiler, its sanitizers
	universal-ctags python3                      # tests/tidy
	libnbd-bin libnbd-dev python3-libnbd         # stock NBD clients
	nbdkit qemu-utils fio                        # others' servers and clients, load
	xfsprogs e2fsprogs util-linux                # filesystems on a volume; losetup
	tgt libiscsi-bin                             # a real iSCSI target and its client
	iproute2 nftables                            # a path that is reset or cut
	libxml2-utils                                # the resource agent's meta-data
	jq procps
)
lab=(
	corosync pacemaker pacemaker-cli-utils resource-agents crmsh # the cluster's own parts
	iproute2 nftables iputils-ping               # networks in namespaces, and their cuts
	tgt libiscsi-bin sg3-utils                   # shared storage
	user-mode-linux dmsetup                      # the kernel's own target, with a disk that can be held
	postgresql postgresql-contrib                # the demonstration's application
	python3-psycopg2                             # and its client
	e2fsprogs xfsprogs fio jq psmisc procps kmod python3
)

vm=(
	qemu-system-x86 seabios iproute2 util-linux nftables # emulated guests (make test-vm)
	mmdebstrap busybox-static cpio kmod          # their disk and initramfs
	xz-utils zstd e2fsprogs
)

say()
{
	echo "install-deps: $*" >&2
}

missing_of()
{
	local name status

	for name in "$@"; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) || true
		[ "$status" = installed ] || echo "$name"
	done
}

# What keeps packages from starting their services while this runs (invoke-rc.d(8)); one that is
# there already, a container's say, stays as it is.
install_quietly()
{
	local policy=/usr/sbin/policy-rc.d

	if [ ! -e "$policy" ]; then
		trap '"${as_root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
		"${as_root[@]}" chmod 755 "$policy"
	fi
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get \
		-o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" </dev/null >&2
}

wanted=()
for group in "${@:-all}"; do
	case "$group" in
	build) wanted+=("${build[@]}") ;;
	test) wanted+=("${test[@]}") ;;
	lab) wanted+=("${lab[@]}") ;;
	vm) wanted+=("${vm[@]}") ;;
	all) wanted+=("${build[@]}" "${test[@]}" "${lab[@]}") ;;
	*)
		say "no such group: $group; there are build, test, lab, vm"
		exit 1
		;;
	esac
done

if [ "${FERRY_DEPS:-}" = skip ]; then
	exit 0
fi
if ! command -v dpkg-query >/dev/null; then
	say "this is no Debian: install these in your system's own way, then set FERRY_DEPS=skip:"
	say "${wanted[*]}"
	exit 1
fi
mapfile -t missing < <(missing_of "${wanted[@]}" | sort -u)
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

say "missing: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null || ! sudo -v; then
		say "cannot install them: neither root nor allowed to sudo; as root, run: $0 $*"
		exit 1
	fi
	as_root=(sudo)
fi
if ! "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 -qq update >&2; then
	say "'apt-get update' failed; trying with the lists that are there"
fi
if ! install_quietly "${missing[@]}"; then
	say "apt-get could not install them; its own words are above"
	exit 1
fi
mapfile -t missing < <(missing_of "${missing[@]}")
if [ ${#missing[@]} -gt 0 ]; then
	say "still missing: ${missing[*]}"
	exit 1
fi
