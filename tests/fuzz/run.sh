#!/bin/bash
# run.sh [SECONDS [SEED]] - each fuzz target for SECONDS (60) with libFuzzer, ASan and UBSan, from
# the committed corpus and a seed (the time's). Prints a line each; fails if one crashes or reaches
# less of its parser than tests/fuzz/floors says. What crashed one is kept in build-clang/fuzz.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-60}
seed=${2:-$(($(date +%s) % 1000000))}
jobs=${JOBS:-$(nproc)}
build=build-clang
out=$build/fuzz
profdata=$(command -v llvm-profdata || command -v llvm-profdata-14)
cov=$(command -v llvm-cov || command -v llvm-cov-14)

one()
{
	local name=$1 file=$2 floor=$3 log=$out/$1.log runs

	rm -rf "${out:?}/$name" && mkdir -p "$out/$name"
	if ! LLVM_PROFILE_FILE=$out/$name.raw "$build/tests/${name}_fuzz" -seed="$seed" \
		-max_total_time="$seconds" -timeout=10 -artifact_prefix="$out/$name-" \
		-print_final_stats=1 "$out/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
		tail -n 40 "$log"
		echo "$name: FAILED, seed $seed; see $out/$name-*"
		return 1
	fi
	runs=$(awk '/number_of_executed_units/ {print $2}' "$log")
	tests/fuzz/coverage.sh "$profdata" "$cov" "$build/tests/${name}_fuzz" \
		"$out/$name.raw" "$file" "$floor" >"$log.floor" || {
		cat "$log.floor"
		echo "$name: FAILED: too little of $file was reached, seed $seed"
		return 1
	}
	echo "$name: $runs runs; $(cat "$log.floor")"
}
export -f one
export seconds seed build out profdata cov

mkdir -p "$out"
cmake --preset clang >"$out/build.log" 2>&1
mapfile -t names < <(awk '/^[a-z]/ {print $1 "_fuzz"}' tests/fuzz/floors)
cmake --build --preset clang -j "$jobs" --target "${names[@]}" >>"$out/build.log" 2>&1 || {
	tail -n 40 "$out/build.log"
	exit 1
}
awk '/^[a-z]/' tests/fuzz/floors | xargs -P "$jobs" -L 1 bash -c 'one "$@"' one
