#!/bin/sh
# Whether a fuzz target's last run reached enough lines of the file that it fuzzes.
# usage: coverage.sh LLVM-PROFDATA LLVM-COV PROGRAM RAW-PROFILE FILE PER-CENT
set -eu
profile="$4.merged"
"$1" merge "$4" -o "$profile"
# Columns 8 and 10 of the report are the lines and the share of them that ran.
"$2" report "$3" -instr-profile="$profile" | awk -v file="$5" -v floor="$6" '
	$1 ~ ("(^|/)" file "$") {
		reached = $10 + 0
		seen = 1
	}
	END {
		printf "%s: %.2f %% of the lines, at least %d %%\n", file, reached, floor
		exit !(seen && reached >= floor)
	}'
